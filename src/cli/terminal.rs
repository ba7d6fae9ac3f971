//! Text on its way to a terminal. Knows no names and prints nothing.

/// A line of text for a terminal: control characters, and those that end a line or turn the direction
/// of what follows, are shown as escapes. They come from names, and a terminal would obey them.
pub(super) fn harmless(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}
