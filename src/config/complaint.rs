//! What is wrong with a file, and where.

use std::fmt;

/// A position in a file. Both count from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The character in that line.
    pub column: u32,
}

/// Finds the line and column of any byte of a text.
#[derive(Debug)]
pub struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Notes where the lines of `text` begin.
    pub fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The text of a line.
    pub fn text(&self, line: u32) -> Option<&'a str> {
        self.text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)
    }

    /// The place of the byte at `offset`; past the end of the text, the end.
    pub fn place(&self, offset: usize) -> Place {
        let offset = offset.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= offset);
        let before = self.text.as_bytes()[self.starts[line - 1]..offset].iter();
        // Every character of UTF-8 has one byte that continues no other.
        let characters = before.filter(|byte| **byte & 0xC0 != 0x80).count();
        Place { line: count(line), column: count(characters + 1) }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// One mistake, or one thing that an operator should know. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// The file, as it was named.
    pub file: String,
    /// Where in it; `None` when it is about the file as a whole.
    pub place: Option<Place>,
    /// What is wrong, and what to write instead.
    pub text: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{}:{}: {}", self.file, place.line, self.text),
            None => write!(f, "{}: {}", self.file, self.text),
        }
    }
}

/// The known word that `word` was most likely meant to be: few letters added, lost, swapped or changed.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let most = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words; two neighbours swapped count as one. Words far too long are not compared.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    if left.len() > LONGEST_WORD {
        return usize::MAX;
    }
    let mut rows = vec![(0..=right.len()).collect::<Vec<_>>()];
    for (i, &l) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &r) in right.iter().enumerate() {
            let changed = rows[i][j] + usize::from(l != r);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && l == right[j - 1] && left[i - 1] == r {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

const LONGEST_WORD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_far_ones_are_not() {
        let known = ["default_pool_size", "min_pool_size", "pool_mode", "port", "host"];
        for (word, expected) in [
            ("defaul_pool_size", Some("default_pool_size")),
            ("POOL_MODE", Some("pool_mode")),
            ("prot", Some("port")),
            ("hots", Some("host")),
            ("auth_query", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
    }

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "añb\ncd\n";
        for (offset, line, column) in [(0, 1, 1), (3, 1, 3), (5, 2, 1), (6, 2, 2), (8, 3, 1), (99, 3, 1)] {
            assert_eq!(Lines::new(text).place(offset), Place { line, column }, "{offset}");
        }
    }

    #[test]
    fn a_complaint_shows_file_and_line() {
        let mut complaint =
            Complaint { file: "a.toml".into(), place: Some(Place { line: 3, column: 1 }), text: "no".into() };
        assert_eq!(complaint.to_string(), "a.toml:3: no");
        complaint.place = None;
        assert_eq!(complaint.to_string(), "a.toml: no");
    }
}
