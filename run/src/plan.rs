//! What is run: options and words, judged before anything is read.

use std::io;
use std::sync::Arc;

use crate::columns::{Reading, Rows, Trim};
use crate::job::Shape;
use crate::jobs::{COMMAND_BYTES, ComposeError, Dealing, Jobs};
use crate::pattern::Pattern;
use crate::placeholder::{Placeholder, Vocabulary};
use crate::sources::{Combining, Opened, combine};
use crate::template::{Template, TemplateError};
use crate::words::{Input, Source, Values, Words};

/// Options that say what is composed, named as on the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `-a`, `--arg-file`
    pub arg_files: Vec<Input>,
    /// `-C`, `--colsep`
    pub colsep: Option<Pattern>,
    /// `--header`: so many lines begin each source, the last of which names its columns. See [`Plan::header_lines`].
    pub header: usize,
    /// `--trim`; without it columns of `--colsep` are trimmed at both ends, and nothing else is.
    pub trim: Option<Trim>,
    /// `-E`
    pub end_of_file: Option<Vec<u8>>,
    /// `-r`, `--no-run-if-empty`
    pub no_run_if_empty: bool,
    /// `--link`
    pub link: bool,
    /// `--shuf`, with a seed
    pub shuf: Option<u64>,
    /// `--plus`
    pub plus: bool,
    /// `-I`
    pub replace: Option<Vec<u8>>,
    /// `-q`, `--quote`
    pub quote: bool,
    /// `--tagstring`; `{}` for `--tag`
    pub tagstring: Option<Vec<u8>>,
    /// `-n`, `--max-args`
    pub max_args: Option<usize>,
    /// `-N`, `--max-replace-args`
    pub max_replace_args: Option<usize>,
    /// `-L`, `--max-lines`
    pub max_lines: Option<usize>,
    /// `-s`, `--max-chars`
    pub max_chars: Option<usize>,
    /// `-X`, `-m`, `--xargs`
    pub several: Option<Several>,
    /// Jobs that run at once: the last arguments of `-X` and `-m` are spread over so many, and `{0%}` is as long.
    pub slots: usize,
}

/// As many arguments to a job as fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Several {
    /// The word around a placeholder is there for each of them (`-X`).
    Context,
    /// They are put in side by side (`-m`).
    Once,
    /// The same, and the last are not spread over all slots (`--xargs`).
    Xargs,
}

/// A command line that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A text with placeholders cannot be filled in.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The argument of `--header`.
    #[error(
        "--header {given}: write ':' if the first line names the columns, or how many lines come before the arguments"
    )]
    Header {
        /// What was given.
        given: String,
    },
    /// A limit on command lines that nothing can keep.
    #[error("--max-chars {0} leaves no room for a command")]
    NoRoom(usize),
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    options: Options,
    words: Words,
    needs_total: bool,
}

impl Plan {
    /// Judges options, and the words behind them.
    pub fn new(options: Options, words: Vec<Vec<u8>>) -> Result<Self, PlanError> {
        if let Some(limit @ (0 | 1)) = options.max_chars {
            return Err(PlanError::NoRoom(limit));
        }
        let words = Words::split(words, &options.arg_files);
        let mut plan = Self { options, words, needs_total: false };
        let shape = plan.shape(Vec::new())?;
        let tag = shape.tag.iter().flat_map(Template::placeholders);
        plan.needs_total = shape
            .command
            .placeholders()
            .chain(tag)
            .any(|placeholder| matches!(placeholder, Placeholder::Total | Placeholder::Sequence(true)));
        Ok(plan)
    }

    /// Reads the argument of `--header`.
    pub fn header_lines(text: &str) -> Result<usize, PlanError> {
        match text {
            ":" => Ok(1),
            text => text
                .parse()
                .ok()
                .filter(|lines| *lines > 0)
                .ok_or_else(|| PlanError::Header { given: text.into() }),
        }
    }

    /// The command and the sources.
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// Whether a text says how many jobs there are, so that all have to be composed before the first is run.
    pub fn needs_total(&self) -> bool {
        self.needs_total
    }

    /// Judges another text with placeholders, for [`Composed::expand`](crate::Composed::expand).
    pub fn check(&self, text: &[u8]) -> Result<(), TemplateError> {
        Template::text(text, &self.vocabulary(Vec::new())).map(drop)
    }

    /// The jobs. `open` is asked once for each file and for standard input, in the order of the sources, and gives the
    /// arguments in it ([`Records`](crate::Records)), which are read as they are needed.
    pub fn jobs<'a>(
        &self,
        mut open: impl FnMut(&Input) -> io::Result<Opened<'a>>,
    ) -> Result<Jobs<'a>, ComposeError> {
        let reading = Arc::new(self.reading());
        let mut names = Vec::new();
        let mut sources = Vec::new();
        for Source { linked, values } in &self.words.sources {
            let values = match values {
                Values::Literal(values) => Box::new(values.clone().into_iter().map(Ok)),
                Values::Input(input) => open(input).map_err(|source| match input {
                    Input::Standard => ComposeError::Read(source),
                    Input::File(path) => ComposeError::Open { path: path.clone(), source },
                })?,
            };
            let mut rows = Rows::new(values, reading.clone());
            names.extend(rows.header(self.options.header)?);
            sources.push((*linked, rows));
        }
        let shape = Arc::new(self.shape(names)?);
        let combining = Combining { is_linked: self.options.link, shuffle: self.options.shuf };
        Ok(Jobs::new(combine(sources, combining)?, shape, self.dealing()))
    }

    fn shape(&self, names: Vec<Vec<u8>>) -> Result<Shape, TemplateError> {
        let vocabulary = self.vocabulary(names);
        let options = &self.options;
        let repeats_context = match options.several {
            Some(several) => several == Several::Context,
            None => options.max_replace_args.is_some() || options.max_lines.is_some(),
        };
        let command = Template::command(&self.words.command, &vocabulary, options.quote, repeats_context)?;
        let tag = options.tagstring.as_ref().map(|tag| Template::text(&with_tabs(tag), &vocabulary));
        Ok(Shape { command, tag: tag.transpose()?, vocabulary, slots: options.slots })
    }

    fn vocabulary(&self, names: Vec<Vec<u8>>) -> Vocabulary {
        let replace = self.options.replace.clone().filter(|replace| replace != b"{}");
        Vocabulary { names, plus: self.options.plus, replace }
    }

    fn reading(&self) -> Reading {
        let options = &self.options;
        let tab = || Pattern::parse(b"\t").ok().filter(|_| options.header > 0);
        let separator = options.colsep.clone().or_else(tab);
        let trim = if separator.is_some() { Trim::Both } else { Trim::Nowhere };
        Reading {
            separator,
            trim: options.trim.unwrap_or(trim),
            end: options.end_of_file.clone(),
            skips_blank: options.no_run_if_empty,
            joins_values: options.max_lines.is_some(),
        }
    }

    fn dealing(&self) -> Dealing {
        let options = &self.options;
        let limits = [options.max_args, options.max_replace_args, options.max_lines];
        let most = limits.into_iter().flatten().min();
        let spreads = matches!(options.several, Some(Several::Context | Several::Once));
        Dealing {
            most: most.unwrap_or(if options.several.is_some() { usize::MAX } else { 1 }),
            most_bytes: options.max_chars.map_or(COMMAND_BYTES, |limit| COMMAND_BYTES.min(limit - 1)),
            spread_over: spreads.then_some(options.slots),
        }
    }
}

/// A tag as it is written: `\t` and `\n` are tab and line end.
fn with_tabs(tag: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(tag.len());
    let mut rest = tag;
    while let Some((first, after)) = rest.split_first() {
        let (byte, length) = match after.first() {
            Some(b't') if *first == b'\\' => (b'\t', 2),
            Some(b'n') if *first == b'\\' => (b'\n', 2),
            _ => (*first, 1),
        };
        result.push(byte);
        rest = &rest[length..];
    }
    result
}
