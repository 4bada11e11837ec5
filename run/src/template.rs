//! A text with placeholders, and how it is filled in.

use crate::edit::Edit;
use crate::job::Start;
use crate::pattern::PatternError;
use crate::placeholder::{Placeholder, Vocabulary};
use crate::quote::quote_into;

/// A text that cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It has an expression of Perl in it.
    #[error(
        "{0} is Perl, which is not run here: --plus has strings for most of it, as {{%.gz}} or {{/old/new}}"
    )]
    Perl(String),
    /// A pattern in it is not understood.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// A text with placeholders.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    words: Vec<Vec<Group>>,
    quoting: Quoting,
}

/// A piece of a template that stands there once, or once for each argument.
#[derive(Clone, Debug)]
struct Group {
    tokens: Vec<Token>,
    is_repeated: bool,
}

#[derive(Clone, Debug)]
enum Token {
    Text(Vec<u8>),
    Place(Placeholder),
}

/// What is quoted for the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quoting {
    /// Arguments, where they are put in.
    Arguments,
    /// Whole words of the command (`-q`).
    Words,
    Nothing,
}

/// What a template is filled in with.
#[derive(Debug)]
pub(crate) struct Filling<'a> {
    pub(crate) arguments: &'a [&'a [u8]],
    pub(crate) sequence: u64,
    pub(crate) start: Start,
    pub(crate) slots: usize,
}

impl Template {
    /// A command. Without words the arguments are commands; without placeholders arguments come last.
    ///
    /// With `quotes_words` its words reach the program as they are; with `repeats_context` a word with a placeholder is
    /// there once for each argument.
    pub(crate) fn command(
        words: &[Vec<u8>],
        vocabulary: &Vocabulary,
        quotes_words: bool,
        repeats_context: bool,
    ) -> Result<Self, TemplateError> {
        let each = || Token::Place(Placeholder::Each(Edit::Whole));
        if words.is_empty() {
            let group = Group { tokens: vec![each()], is_repeated: false };
            let quoting = if quotes_words { Quoting::Words } else { Quoting::Nothing };
            return Ok(Self { words: vec![vec![group]], quoting });
        }
        let mut words = parse_words(words, vocabulary, quotes_words)?;
        if !words.iter().flatten().any(|token| matches!(token, Token::Place(_))) {
            match words.last_mut() {
                Some(only) if !quotes_words => only.extend([Token::Text(b" ".to_vec()), each()]),
                _ => words.push(vec![each()]),
            }
        }
        // What the first word is made of is a command, or a part of one.
        let mut first_word = words.iter().take(1).flatten().take_while(|token| !token.has_blank());
        let begins_with_argument = first_word.any(|token| matches!(token, Token::Place(_)));
        let quoting = match (quotes_words, begins_with_argument) {
            (true, _) => Quoting::Words,
            (false, true) => Quoting::Nothing,
            (false, false) => Quoting::Arguments,
        };
        let words = words.into_iter().map(|tokens| groups(tokens, repeats_context)).collect();
        Ok(Self { words, quoting })
    }

    /// A command behind which no arguments come.
    pub(crate) fn command_alone(
        words: &[Vec<u8>],
        vocabulary: &Vocabulary,
        quotes_words: bool,
    ) -> Result<Self, TemplateError> {
        let words = parse_words(words, vocabulary, quotes_words)?;
        let quoting = if quotes_words { Quoting::Words } else { Quoting::Arguments };
        Ok(Self { words: words.into_iter().map(|tokens| groups(tokens, false)).collect(), quoting })
    }

    /// A text in which arguments are not quoted.
    pub(crate) fn text(text: &[u8], vocabulary: &Vocabulary) -> Result<Self, TemplateError> {
        Ok(Self { words: vec![groups(parse(text, vocabulary)?, false)], quoting: Quoting::Nothing })
    }

    /// Its placeholders.
    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.words.iter().flatten().flat_map(|group| &group.tokens).filter_map(|token| match token {
            Token::Place(placeholder) => Some(placeholder),
            Token::Text(_) => None,
        })
    }

    /// Filled in with one argument after the other, if it has a placeholder for all of them.
    pub(crate) fn fill_each(&self, filling: &Filling<'_>) -> Vec<Vec<u8>> {
        if !self.placeholders().any(|placeholder| matches!(placeholder, Placeholder::Each(_))) {
            return vec![self.fill(filling)];
        }
        let fill = |argument: &&[u8]| {
            let mut line = Line { text: Vec::new(), word: Vec::new(), quoting: self.quoting };
            let tokens = self.words.iter().flatten().flat_map(|group| &group.tokens);
            tokens.for_each(|token| token.fill(&[argument], filling, &mut line));
            line.finish()
        };
        filling.arguments.iter().map(fill).collect()
    }

    pub(crate) fn fill(&self, filling: &Filling<'_>) -> Vec<u8> {
        let mut line = Line { text: Vec::new(), word: Vec::new(), quoting: self.quoting };
        for (number, word) in self.words.iter().enumerate() {
            if number > 0 {
                line.gap();
            }
            for group in word {
                group.fill(filling, &mut line);
            }
        }
        line.finish()
    }
}

impl Group {
    fn fill(&self, filling: &Filling<'_>, line: &mut Line) {
        if !self.is_repeated || filling.arguments.is_empty() {
            self.tokens.iter().for_each(|token| token.fill(filling.arguments, filling, line));
            return;
        }
        for (number, argument) in filling.arguments.iter().enumerate() {
            if number > 0 {
                line.gap();
            }
            self.tokens.iter().for_each(|token| token.fill(&[argument], filling, line));
        }
    }
}

impl Token {
    fn has_blank(&self) -> bool {
        matches!(self, Self::Text(text) if text.iter().any(u8::is_ascii_whitespace))
    }

    /// Appends itself, with `each` where it stands for all arguments.
    fn fill(&self, each: &[&[u8]], filling: &Filling<'_>, line: &mut Line) {
        let placeholder = match self {
            Self::Text(text) => return line.text(text),
            Self::Place(placeholder) => placeholder,
        };
        let number = |number: u64, most: Option<u64>| {
            let width = most.map_or(1, |most| most.max(1).ilog10() as usize + 1);
            format!("{number:0width$}")
        };
        let Start { slot, total } = filling.start;
        match placeholder {
            Placeholder::Each(edit) => line.values(each, edit),
            Placeholder::Unique | Placeholder::Rising => line.values(each, &Edit::Whole),
            Placeholder::At(position, edit) => line.values(at(filling.arguments, *position).as_slice(), edit),
            Placeholder::Sequence(is_padded) => {
                line.text(number(filling.sequence, is_padded.then_some(total)).as_bytes());
            }
            Placeholder::Slot(is_padded) => {
                line.text(number(slot as u64, is_padded.then_some(filling.slots as u64)).as_bytes());
            }
            Placeholder::Total => line.text(total.to_string().as_bytes()),
            Placeholder::Variable(name) => line.text(format!("${{{name}}}").as_bytes()),
        }
    }
}

/// The argument at a position, from 1, or from the last with -1.
fn at<'a>(arguments: &[&'a [u8]], position: i64) -> Option<&'a [u8]> {
    let distance = usize::try_from(position.unsigned_abs()).ok()?;
    let index =
        if position > 0 { distance.checked_sub(1)? } else { arguments.len().checked_sub(distance)? };
    arguments.get(index).copied()
}

/// A command line that is being written.
struct Line {
    text: Vec<u8>,
    /// The word that is being written, where words are quoted.
    word: Vec<u8>,
    quoting: Quoting,
}

impl Line {
    fn text(&mut self, text: &[u8]) {
        let is_quoted_later = self.quoting == Quoting::Words;
        if is_quoted_later { &mut self.word } else { &mut self.text }.extend_from_slice(text);
    }

    fn values(&mut self, values: &[&[u8]], edit: &Edit) {
        for (number, value) in values.iter().enumerate() {
            if number > 0 {
                self.gap();
            }
            match self.quoting {
                Quoting::Arguments => quote_into(&edit.apply(value), &mut self.text),
                Quoting::Words | Quoting::Nothing => self.text(&edit.apply(value)),
            }
        }
    }

    /// Ends a word.
    fn gap(&mut self) {
        self.end_word();
        self.text.push(b' ');
    }

    fn end_word(&mut self) {
        if self.quoting == Quoting::Words {
            quote_into(&self.word, &mut self.text);
            self.word.clear();
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.end_word();
        self.text
    }
}

/// Reads the words of a command; they are one, where each is not quoted by itself.
fn parse_words(
    words: &[Vec<u8>],
    vocabulary: &Vocabulary,
    quotes_words: bool,
) -> Result<Vec<Vec<Token>>, TemplateError> {
    if quotes_words {
        words.iter().map(|word| parse(word, vocabulary)).collect()
    } else {
        Ok(vec![parse(&words.join(&b' '), vocabulary)?])
    }
}

/// Reads a text: what is between braces and known is a placeholder, all else stands as it is.
fn parse(text: &[u8], vocabulary: &Vocabulary) -> Result<Vec<Token>, TemplateError> {
    if let Some(perl) = perl(text) {
        return Err(TemplateError::Perl(String::from_utf8_lossy(perl).into_owned()));
    }
    let mut tokens = Vec::new();
    let mut literal = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.first() {
        let found = placeholder_at(rest, vocabulary)?;
        let Some((placeholder, length)) = found else {
            literal.push(*first);
            rest = &rest[1..];
            continue;
        };
        if !literal.is_empty() {
            tokens.push(Token::Text(std::mem::take(&mut literal)));
        }
        tokens.push(Token::Place(placeholder));
        rest = &rest[length..];
    }
    if !literal.is_empty() {
        tokens.push(Token::Text(literal));
    }
    Ok(tokens)
}

/// The placeholder that begins `text`, and how long it is written.
fn placeholder_at(
    text: &[u8],
    vocabulary: &Vocabulary,
) -> Result<Option<(Placeholder, usize)>, TemplateError> {
    if let Some(word) = vocabulary.replace.as_ref().filter(|word| text.starts_with(word)) {
        return Ok(Some((Placeholder::Each(Edit::Whole), word.len())));
    }
    let Some(inside) = text.strip_prefix(b"{") else { return Ok(None) };
    let Some(end) = inside.iter().position(|byte| *byte == b'}') else { return Ok(None) };
    Ok(vocabulary.placeholder(&inside[..end])?.map(|placeholder| (placeholder, end + 2)))
}

/// The first expression of Perl in a text.
fn perl(text: &[u8]) -> Option<&[u8]> {
    let start = text.windows(2).position(|two| two == b"{=")?;
    let end = text[start + 2..].windows(2).position(|two| two == b"=}")?;
    Some(&text[start..start + 2 + end + 2])
}

/// Splits tokens so that what has a placeholder for all arguments in it, up to the next blank on both sides, is a group.
fn groups(tokens: Vec<Token>, repeats_context: bool) -> Vec<Group> {
    if !repeats_context {
        return vec![Group { tokens, is_repeated: false }];
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut current = Vec::new();
    for token in tokens {
        let Token::Text(text) = token else {
            current.push(token);
            continue;
        };
        for piece in text.chunk_by(|a, b| a.is_ascii_whitespace() == b.is_ascii_whitespace()) {
            let is_blank = piece[0].is_ascii_whitespace();
            if is_blank {
                groups.push(group(std::mem::take(&mut current)));
            }
            current.push(Token::Text(piece.to_vec()));
            if is_blank {
                groups.push(group(std::mem::take(&mut current)));
            }
        }
    }
    groups.push(group(current));
    groups
}

fn group(tokens: Vec<Token>) -> Group {
    let is_repeated = tokens.iter().any(|token| matches!(token, Token::Place(Placeholder::Each(_))));
    Group { tokens, is_repeated }
}
