//! Who is at the other end of the local socket: its process, and its user's name from `/etc/passwd`. Users that are known elsewhere only (LDAP and the like)
//! are called by their number; asking for their names could block the daemon on a network.

use std::io::Read as _;

use rollbackd_core::entry::Actor;
use tokio::net::UnixStream;

/// No host's list of its own users is longer: 1 MiB.
const LIMIT: u64 = 1024 * 1024;

/// The user with this number.
pub fn actor(uid: u32) -> Actor {
    let mut users = String::new();
    let read = std::fs::File::open("/etc/passwd").and_then(|file| file.take(LIMIT).read_to_string(&mut users));
    let name = read.ok().and_then(|_| name(&users, uid));
    Actor::Operator(name.map_or_else(|| format!("uid {uid}"), ToOwned::to_owned))
}

/// The number of the process that listens at the other end, or `unknown` where it is none of this host's as we see it.
pub fn process(stream: &UnixStream) -> String {
    let process = stream.peer_cred().ok().and_then(|credentials| credentials.pid()).filter(|process| *process > 0);
    process.map_or_else(|| "unknown".to_owned(), |process| process.to_string())
}

/// `passwd(5)`: name, password, number, … with colons between.
fn name(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\n# a comment\nbroken\n:x:7:7::/:\nalice:x:1000:1000:Alice,,,:/var/alice:/bin/sh\n";

    #[test]
    fn a_user_of_the_host_is_called_by_their_name() {
        assert_eq!(name(USERS, 0), Some("root"));
        assert_eq!(name(USERS, 1000), Some("alice"));
    }

    #[test]
    fn a_user_of_elsewhere_is_called_by_their_number() {
        assert_eq!(name(USERS, 1001), None);
        assert_eq!(name(USERS, 7), None);
        assert_eq!(actor(u32::MAX), Actor::Operator("uid 4294967295".to_owned()));
    }
}
