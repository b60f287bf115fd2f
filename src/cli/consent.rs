//! Consent: what changes something asks a person first, unless they have said yes already.

use std::io::{self, BufRead, IsTerminal as _, Write};

use clap::Args;

use super::Stop;
use super::text::Screen;

/// How a person says yes beforehand.
#[derive(Clone, Copy, Debug, Args)]
pub struct Consent {
    /// Don't ask. Needed where there is no terminal.
    #[arg(long, short)]
    pub yes: bool,
    /// Only show what would be done.
    #[arg(long, short = 'n', conflicts_with = "yes")]
    pub dry_run: bool,
}

impl Consent {
    /// Says no at once where nobody can be asked and nobody has said yes.
    pub fn possible(self) -> Result<(), Stop> {
        if self.yes || self.dry_run || on_a_terminal() {
            return Ok(());
        }
        Err(Stop::Usage("there is no terminal to ask on: say --yes to do it, or --dry-run to see what would be done".to_owned()))
    }

    /// Shows `what` will be done, with `warnings`, and asks. Only to be called when it is to be done.
    pub fn obtain(self, screen: &Screen, what: &str, warnings: &[String]) -> Result<(), Stop> {
        if self.yes {
            return Ok(());
        }
        screen.tell(what);
        for warning in warnings {
            screen.warn(warning);
        }
        let mut terminal = screen.messages();
        match ask(&mut io::stdin().lock(), &mut terminal) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Stop::Failed("nothing was done".to_owned())),
            Err(error) => Err(Stop::Failed(format!("nothing was done: cannot ask: {error}"))),
        }
    }
}

fn on_a_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Only a clear yes is a yes.
fn ask(input: &mut impl BufRead, output: &mut impl Write) -> io::Result<bool> {
    write!(output, "Do this? [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_a_yes() {
        for (typed, expected) in [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("n\n", false), ("yesterday\n", false)] {
            let mut output = Vec::new();
            assert_eq!(ask(&mut typed.as_bytes(), &mut output).unwrap(), expected, "{typed:?}");
            assert_eq!(output, b"Do this? [y/N] ");
        }
    }
}
