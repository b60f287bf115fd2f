//! Foreign text, made fit for a notice: bounded, on one line. Cluster objects and servers' messages are hostile input.

/// At most `limit` bytes of `text`, without control characters; what was cut off shows as `…`.
pub(super) fn bounded(text: &str, limit: usize) -> String {
    let flat: String = text.chars().take(limit + 1).map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if flat.len() <= limit {
        return flat;
    }
    let ellipsis = '…';
    let end = flat.floor_char_boundary(limit.saturating_sub(ellipsis.len_utf8()));
    let mut kept = flat[..end].to_owned();
    kept.push(ellipsis);
    kept
}

/// A platform's message: 1 KiB says it.
pub(super) fn message(text: &str) -> String {
    bounded(text, 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_cut_at_a_letter_and_kept_on_one_line() {
        assert_eq!(bounded("a\nb\u{1b}[31m", 100), "a b [31m");
        assert_eq!(bounded("ééééé", 10), "ééééé");
        assert_eq!(bounded("ééééééé", 10), "ééé…");
    }
}
