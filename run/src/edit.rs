//! What a placeholder makes of an argument: `{.}` its name without extension, `{%.gz}` without that at its end, and so on.

use crate::pattern::Pattern;

/// A way to change an argument.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// `{}`
    Whole,
    /// `{.}`, `{..}`, `{...}`: without so many extensions.
    WithoutExtensions(usize),
    /// `{+.}`, `{+..}`, `{+...}`: so many extensions, and nothing else.
    Extensions(usize),
    /// `{/}`
    Base,
    /// `{/.}`, `{/..}`, `{/...}`
    BaseWithoutExtensions(usize),
    /// `{//}`: what `dirname` says.
    Directory,
    /// `{+/}`: what is before the last slash.
    BeforeBase,
    /// `{:-text}`: the text where the argument is empty.
    OrElse(Vec<u8>),
    /// `{:2}`, `{:2:3}`: from that byte on, so many.
    Part(usize, usize),
    /// `{#pattern}`, `{##pattern}`: without that at its start, of which as much as there is with the second.
    WithoutPrefix(Pattern, bool),
    /// `{%pattern}`, `{%%pattern}`: the same at its end.
    WithoutSuffix(Pattern, bool),
    /// `{/pattern/text}`, `{//pattern/text}`: the first match replaced, or all.
    Replaced(Pattern, Vec<u8>, bool),
    /// `{^pattern}`, `{^^pattern}`: what matches in capital letters, at the start or everywhere.
    Upper(Pattern, bool),
    /// `{,pattern}`, `{,,pattern}`: the same in small letters.
    Lower(Pattern, bool),
}

impl Edit {
    /// What becomes of `value`.
    pub(crate) fn apply(&self, value: &[u8]) -> Vec<u8> {
        match self {
            Self::Whole => value.to_vec(),
            Self::WithoutExtensions(count) => without_extensions(value, *count).to_vec(),
            Self::Extensions(count) => extensions(value, *count).to_vec(),
            Self::Base => base(value).to_vec(),
            Self::BaseWithoutExtensions(count) => without_extensions(base(value), *count).to_vec(),
            Self::Directory => directory(value).to_vec(),
            Self::BeforeBase => before_base(value).to_vec(),
            Self::OrElse(text) => if value.is_empty() { text } else { value }.to_vec(),
            Self::Part(from, most) => value.iter().skip(*from).take(*most).copied().collect(),
            Self::WithoutPrefix(pattern, is_longest) => {
                value[pattern.prefix(value, *is_longest).unwrap_or(0)..].to_vec()
            }
            Self::WithoutSuffix(pattern, is_longest) => {
                value[..pattern.suffix(value, *is_longest).unwrap_or(value.len())].to_vec()
            }
            Self::Replaced(pattern, text, all) => replaced(value, pattern, *all, |_| text.clone()),
            Self::Upper(pattern, true) => replaced(value, pattern, true, <[u8]>::to_ascii_uppercase),
            Self::Lower(pattern, true) => replaced(value, pattern, true, <[u8]>::to_ascii_lowercase),
            Self::Upper(pattern, false) => start_changed(value, pattern, <[u8]>::make_ascii_uppercase),
            Self::Lower(pattern, false) => start_changed(value, pattern, <[u8]>::make_ascii_lowercase),
        }
    }
}

fn last_slash(value: &[u8]) -> Option<usize> {
    value.iter().rposition(|byte| *byte == b'/')
}

fn base(value: &[u8]) -> &[u8] {
    &value[last_slash(value).map_or(0, |slash| slash + 1)..]
}

fn before_base(value: &[u8]) -> &[u8] {
    &value[..last_slash(value).unwrap_or(0)]
}

fn directory(value: &[u8]) -> &[u8] {
    let named = without_slashes_at_the_end(value);
    match last_slash(named) {
        None if named.is_empty() && !value.is_empty() => b"/",
        None => b".",
        Some(slash) => match without_slashes_at_the_end(&named[..slash]) {
            b"" => b"/",
            directory => directory,
        },
    }
}

fn without_slashes_at_the_end(value: &[u8]) -> &[u8] {
    let length = value.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    &value[..length]
}

/// Where the last extension begins, at its dot, if there is one after the last slash. It may be nothing but the dot.
fn extension(value: &[u8]) -> Option<usize> {
    value.iter().rposition(|byte| b"./".contains(byte)).filter(|at| value[*at] == b'.')
}

/// Where the last `count` extensions begin.
fn extensions_start(value: &[u8], count: usize) -> Option<usize> {
    (0..count).try_fold(value.len(), |end, _| extension(&value[..end]))
}

fn without_extensions(value: &[u8], count: usize) -> &[u8] {
    &value[..extensions_start(value, count).unwrap_or(value.len())]
}

fn extensions(value: &[u8], count: usize) -> &[u8] {
    // One extension is what follows the last dot, wherever that is.
    let start = match count {
        1 => value.iter().rposition(|byte| *byte == b'.'),
        _ => extensions_start(value, count),
    };
    start.map_or(b"", |dot| &value[dot + 1..])
}

fn replaced(value: &[u8], pattern: &Pattern, all: bool, new: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut result = Vec::with_capacity(value.len());
    let mut from = 0;
    while let Some(found) = pattern.find(value, from) {
        result.extend_from_slice(&value[from..found.start]);
        result.extend(new(&value[found.clone()]));
        from = found.end;
        if !all {
            break;
        }
    }
    result.extend_from_slice(&value[from..]);
    result
}

fn start_changed(value: &[u8], pattern: &Pattern, change: fn(&mut [u8])) -> Vec<u8> {
    let mut result = value.to_vec();
    change(&mut result[..pattern.prefix(value, true).unwrap_or(0)]);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(edit: Edit, cases: &[(&str, &str)]) {
        for (value, expected) in cases {
            let result = String::from_utf8(edit.apply(value.as_bytes())).unwrap();
            assert_eq!(result, *expected, "{edit:?} of {value:?}");
        }
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn paths_are_taken_apart() {
        let dots = [
            ("a.b.c", "a.b"),
            ("d.e/f", "d.e/f"),
            (".x", ""),
            ("a/.x", "a/"),
            ("a.", "a"),
            ("..", "."),
            ("", ""),
        ];
        check(Edit::WithoutExtensions(1), &dots);
        check(
            Edit::WithoutExtensions(2),
            &[("d.e/a.b.c.d", "d.e/a.b"), ("a.b", "a.b"), (".a.b", ""), ("a/b.c", "a/b.c"), ("a.b.", "a")],
        );
        check(Edit::Extensions(1), &[("a.b.c", "c"), ("d.e/x", "e/x"), ("a", ""), ("a.", "")]);
        check(Edit::Extensions(2), &[("a.b.c", "b.c"), ("a.b", ""), (".a.b", "a.b")]);
        check(Edit::Base, &[("d/e.f", "e.f"), ("a/", ""), ("/", ""), ("", "")]);
        check(Edit::BaseWithoutExtensions(1), &[("d/e.f.g", "e.f"), ("/a.b", "a")]);
        let directories = [
            ("/", "/"),
            ("a/", "."),
            ("/a", "/"),
            ("/a/b/", "/a"),
            ("a//b", "a"),
            ("", "."),
            ("a.b/", "."),
            ("a/b", "a"),
        ];
        check(Edit::Directory, &directories);
        check(Edit::BeforeBase, &[("d.e/a", "d.e"), ("a", ""), ("/a", ""), ("a//b", "a/"), ("/a/", "/a")]);
    }

    #[test]
    fn parts_are_cut_and_replaced() {
        check(Edit::OrElse(b"x".into()), &[("", "x"), ("a", "a"), ("0", "0")]);
        check(Edit::Part(1, 3), &[("abcdef", "bcd"), ("ab", "b"), ("", "")]);
        check(
            Edit::WithoutSuffix(pattern(".gz"), false),
            &[("a.tar.gz", "a.tar"), ("axgz", "a"), ("gz", "gz")],
        );
        check(Edit::WithoutPrefix(pattern("a"), false), &[("abc", "bc"), ("bca", "bca")]);
        check(Edit::Replaced(pattern("a"), b"b".into(), false), &[("banana", "bbnana")]);
        check(Edit::Replaced(pattern("a"), b"".into(), true), &[("banana", "bnn")]);
        check(Edit::Upper(pattern("a"), false), &[("abanA", "AbanA"), ("banana", "banana")]);
        check(Edit::Upper(pattern("an"), true), &[("banana", "bANANa")]);
        check(Edit::Lower(pattern("A"), false), &[("ABA", "aBA")]);
        check(Edit::Lower(pattern("A"), true), &[("ABA", "aBa")]);
    }
}
