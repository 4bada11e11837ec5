//! What stands between braces in a command, and what it means.

use crate::edit::Edit;
use crate::pattern::{Pattern, PatternError};

/// A place in a template that is filled in for each job.
#[derive(Clone, Debug)]
pub(crate) enum Placeholder {
    /// Each argument, changed.
    Each(Edit),
    /// One argument, counted from 1, or from the last with -1; nothing where there is none.
    At(i64, Edit),
    /// `{#}`, `{0#}`: the number of the job, and whether zeros make it as long as the number of all.
    Sequence(bool),
    /// `{%}`, `{0%}`: the slot it runs in.
    Slot(bool),
    /// `{##}`: how many jobs there are.
    Total,
    /// `{slot}`, `{host}`: a variable that the shell of the job knows.
    Variable(&'static str),
    /// `{uniq}`: all arguments; a job with two that are alike is left out.
    Unique,
    /// `{choose_k}`: all arguments; a job in which they do not rise is left out.
    Rising,
}

/// What placeholders there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vocabulary {
    /// Names of the columns, the first is column 1.
    pub(crate) names: Vec<Vec<u8>>,
    /// Whether those of `--plus` are known.
    pub(crate) plus: bool,
    /// What stands for `{}` instead (`-I`).
    pub(crate) replace: Option<Vec<u8>>,
}

impl Vocabulary {
    /// What the text between two braces means; none where it is not a placeholder.
    pub(crate) fn placeholder(&self, body: &[u8]) -> Result<Option<Placeholder>, PatternError> {
        if let Some(named) = self.named(body) {
            return Ok(Some(named));
        }
        let fixed = match body {
            b"#" => Some(Placeholder::Sequence(false)),
            b"%" => Some(Placeholder::Slot(false)),
            _ if !self.plus => None,
            b"0#" => Some(Placeholder::Sequence(true)),
            b"0%" => Some(Placeholder::Slot(true)),
            b"##" => Some(Placeholder::Total),
            b"slot" => Some(Placeholder::Variable("PARALLEL_JOBSLOT")),
            b"host" | b"sshlogin" => Some(Placeholder::Variable("PARALLEL_SSHHOST")),
            b"uniq" => Some(Placeholder::Unique),
            b"choose_k" => Some(Placeholder::Rising),
            _ => None,
        };
        if fixed.is_some() {
            return Ok(fixed);
        }
        let (position, rest) = position(body);
        if rest.is_empty() && self.replace.is_some() {
            return Ok(None);
        }
        let edit = match (path_edit(rest), self.plus) {
            (Some(edit), _) => Some(edit),
            (None, true) => plus_edit(rest)?,
            (None, false) => None,
        };
        Ok(edit.map(|edit| match position {
            Some(position) => Placeholder::At(position, edit),
            None => Placeholder::Each(edit),
        }))
    }

    /// A column by its name, as it is or as a path. Names go before all else.
    fn named(&self, body: &[u8]) -> Option<Placeholder> {
        let mut names = self.names.iter().enumerate().filter(|(_, name)| !name.is_empty());
        names.find_map(|(column, name)| {
            let edit = path_edit(body.strip_prefix(name.as_slice())?)?;
            Some(Placeholder::At(column as i64 + 1, edit))
        })
    }
}

/// The number that begins a placeholder, and what follows it.
fn position(body: &[u8]) -> (Option<i64>, &[u8]) {
    let sign = usize::from(body.first() == Some(&b'-'));
    let digits = body[sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = body.split_at(sign + digits);
    match std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()) {
        Some(0) | None => (None, body),
        position => (position, rest),
    }
}

/// Changes that are always known.
fn path_edit(text: &[u8]) -> Option<Edit> {
    match text {
        b"" => Some(Edit::Whole),
        b"." => Some(Edit::WithoutExtensions(1)),
        b"/" => Some(Edit::Base),
        b"//" => Some(Edit::Directory),
        b"/." => Some(Edit::BaseWithoutExtensions(1)),
        _ => None,
    }
}

/// Changes that `--plus` adds.
fn plus_edit(text: &[u8]) -> Result<Option<Edit>, PatternError> {
    let fixed = match text {
        b".." => Some(Edit::WithoutExtensions(2)),
        b"..." => Some(Edit::WithoutExtensions(3)),
        b"/.." => Some(Edit::BaseWithoutExtensions(2)),
        b"/..." => Some(Edit::BaseWithoutExtensions(3)),
        b"+/" => Some(Edit::BeforeBase),
        b"+." => Some(Edit::Extensions(1)),
        b"+.." => Some(Edit::Extensions(2)),
        b"+..." => Some(Edit::Extensions(3)),
        _ => None,
    };
    if fixed.is_some() {
        return Ok(fixed);
    }
    let Some((first, rest)) = text.split_first() else { return Ok(None) };
    // A sign that is written twice stands for the stronger form, unless nothing follows.
    let (is_strong, rest) = match rest.split_first() {
        Some((second, rest)) if second == first && !rest.is_empty() => (true, rest),
        _ => (false, rest),
    };
    if rest.is_empty() {
        return Ok(None);
    }
    Ok(match first {
        b':' if !is_strong => part(rest),
        b'#' => Some(Edit::WithoutPrefix(Pattern::parse(rest)?, is_strong)),
        b'%' => Some(Edit::WithoutSuffix(Pattern::parse(rest)?, is_strong)),
        b'^' => Some(Edit::Upper(Pattern::parse(rest)?, is_strong)),
        b',' => Some(Edit::Lower(Pattern::parse(rest)?, is_strong)),
        b'/' => match rest.iter().position(|byte| *byte == b'/') {
            Some(end) if end > 0 => {
                Some(Edit::Replaced(Pattern::parse(&rest[..end])?, rest[end + 1..].to_vec(), is_strong))
            }
            _ => None,
        },
        _ => None,
    })
}

/// What `{:…}` means: a text for empty arguments, or a part of them.
fn part(text: &[u8]) -> Option<Edit> {
    if let Some(text) = text.strip_prefix(b"-") {
        return (!text.is_empty()).then(|| Edit::OrElse(text.to_vec()));
    }
    let mut numbers = std::str::from_utf8(text).ok()?.split(':').map(|number| {
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| number.parse().unwrap_or(usize::MAX))
    });
    match (numbers.next()?, numbers.next(), numbers.next()) {
        (Some(from), None, None) => Some(Edit::Part(from, usize::MAX)),
        (Some(from), Some(Some(most)), None) => Some(Edit::Part(from, most)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(vocabulary: &Vocabulary, body: &str) -> String {
        let placeholder = vocabulary.placeholder(body.as_bytes()).unwrap();
        placeholder.map_or_else(String::new, |placeholder| {
            let text = format!("{placeholder:?}");
            // Patterns are known by the edits they are in.
            text.split("Pattern").next().unwrap_or_default().to_string()
        })
    }

    #[test]
    fn positions_names_and_edits_are_told_apart() {
        let names = vec![b"a".to_vec(), b"a.b".to_vec(), b"2".to_vec()];
        let vocabulary = Vocabulary { names, plus: true, replace: None };
        for (body, expected) in [
            ("", "Each(Whole)"),
            ("1", "At(1, Whole)"),
            ("-1/.", "At(-1, BaseWithoutExtensions(1))"),
            ("01", "At(1, Whole)"),
            ("2", "At(3, Whole)"),
            ("a", "At(1, Whole)"),
            ("a.b", "At(2, Whole)"),
            ("a.b.", "At(2, WithoutExtensions(1))"),
            ("a..", ""),
            ("0", ""),
            ("foo", ""),
            ("1#x", "At(1, WithoutPrefix("),
            ("#", "Sequence(false)"),
            ("##", "Total"),
            ("##x", "Each(WithoutPrefix("),
            ("%%", "Each(WithoutSuffix("),
            ("^", ""),
            (":", ""),
            (":-", ""),
            (":1:2", "Each(Part(1, 2))"),
            (":1:", ""),
            ("1:1", "At(1, Part(1, 18446744073709551615))"),
            ("/a", ""),
            ("//a/b", "Each(Replaced("),
            ("print $1", ""),
        ] {
            assert_eq!(meaning(&vocabulary, body), expected, "{{{body}}}");
        }
    }

    #[test]
    fn strings_of_plus_are_unknown_without_it() {
        for body in ["..", "##", "0#", "%.gz", ":-x", "+/", "slot", "uniq"] {
            assert_eq!(meaning(&Vocabulary::default(), body), "", "{{{body}}}");
        }
    }

    #[test]
    fn where_another_word_stands_for_arguments_braces_do_not() {
        let vocabulary = Vocabulary { replace: Some(b",,".into()), ..Vocabulary::default() };
        assert_eq!(meaning(&vocabulary, ""), "");
        assert_eq!(meaning(&vocabulary, "1"), "");
        assert_eq!(meaning(&vocabulary, "1."), "At(1, WithoutExtensions(1))");
        assert_eq!(meaning(&vocabulary, "."), "Each(WithoutExtensions(1))");
    }
}
