//! What is run: options and words, judged before anything is read.

mod pipe;

use std::io;
use std::sync::Arc;

pub use self::pipe::Piping;
use crate::blocks::BLOCK_BYTES;
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
    /// `--header :`: the first value of each source names its columns. See [`Plan::names_columns`].
    pub header: bool,
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
    /// `--pipe`
    pub pipe: Option<Piping>,
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
    #[error("--header {given} is not offered: with --header : the first line names the columns")]
    Header {
        /// What was given.
        given: String,
    },
    /// A limit on command lines that nothing can keep.
    #[error("--max-chars {0} leaves no room for a command")]
    NoRoom(usize),
    /// A word for the arguments that is everywhere.
    #[error("-I needs a word that stands for the arguments, as in -I ,, or leave it out and write {{}}")]
    NoReplacement,
    /// `--pipe` without a command.
    #[error("--pipe needs a command that reads its standard input, as in --pipe wc -l")]
    NoReader,
    /// `--pipe` with arguments.
    #[error(
        "--pipe gives jobs standard input and no arguments: leave out -a, ::: and ::::, and write < FILE"
    )]
    PipedArguments,
    /// `--pipe` with `{##}`.
    #[error("--pipe does not know how many jobs there will be, so {{##}} and {{0#}} have no number")]
    PipedTotal,
    /// `--pipe` with a number of which nothing can be made.
    #[error("--pipe needs at least one record for each job: -N, -n and -L are 1 or more")]
    NoRecords,
    /// `--block` with a size that cannot be had.
    #[error("--block {given}: a block has 1 byte to {} MiB", BLOCK_BYTES / (1024 * 1024))]
    Block {
        /// What was given.
        given: usize,
    },
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Plan {
    options: Options,
    words: Words,
    /// As long as columns have no names.
    shape: Arc<Shape>,
}

impl Plan {
    /// Judges options, and the words behind them.
    pub fn new(options: Options, words: Vec<Vec<u8>>) -> Result<Self, PlanError> {
        if let Some(limit @ (0 | 1)) = options.max_chars {
            return Err(PlanError::NoRoom(limit));
        }
        if options.replace.as_ref().is_some_and(Vec::is_empty) {
            return Err(PlanError::NoReplacement);
        }
        let words = Words::split(words, &options.arg_files);
        let shape = Arc::new(shape(&options, &words, Vec::new())?);
        let plan = Self { options, words, shape };
        if let Some(piping) = &plan.options.pipe {
            plan.check_pipe(piping)?;
        }
        Ok(plan)
    }

    /// Reads the argument of `--header`.
    pub fn names_columns(text: &str) -> Result<bool, PlanError> {
        match text {
            ":" | "1" | r".*\n" => Ok(true),
            text => Err(PlanError::Header { given: text.into() }),
        }
    }

    /// The command and the sources.
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// Whether the command or the tag says how many jobs there are (`{##}`), so that all have to be composed before the
    /// first is run.
    pub fn needs_total(&self) -> bool {
        let mut placeholders = self.shape.placeholders();
        placeholders
            .any(|placeholder| matches!(placeholder, Placeholder::Total | Placeholder::Sequence(true)))
    }

    /// Whether the command has the slot in it (`{%}`), so that it is another one each time it starts: comparing it with
    /// what a job log says tells nothing then.
    pub fn depends_on_slot(&self) -> bool {
        self.shape.command.placeholders().any(|placeholder| matches!(placeholder, Placeholder::Slot(_)))
    }

    /// Judges another text, for [`Composed::expand`](crate::Composed::expand), and tells whether it has placeholders.
    pub fn check(&self, text: &[u8]) -> Result<bool, TemplateError> {
        Ok(Template::text(text, &self.shape.vocabulary)?.placeholders().next().is_some())
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
            if self.options.header {
                names.extend(rows.header()?);
            }
            sources.push((*linked, rows));
        }
        let shape = Arc::new(shape(&self.options, &self.words, names)?);
        let combining = Combining { is_linked: self.options.link, shuffle: self.options.shuf };
        Ok(Jobs::new(combine(sources, combining)?, shape, self.dealing()))
    }

    fn reading(&self) -> Reading {
        let options = &self.options;
        let tab = || Pattern::parse(b"\t").ok().filter(|_| options.header);
        let trim = if options.colsep.is_some() { Trim::Both } else { Trim::Nowhere };
        Reading {
            separator: options.colsep.clone().or_else(tab),
            trim: options.trim.unwrap_or(trim),
            end: options.end_of_file.clone(),
            skips_blank: options.no_run_if_empty,
            joins_values: options.max_lines.is_some(),
        }
    }

    fn dealing(&self) -> Dealing {
        let options = &self.options;
        let most = options.max_replace_args.or(options.max_args).or(options.max_lines);
        let spreads = matches!(options.several, Some(Several::Context | Several::Once));
        Dealing {
            most: most.unwrap_or(if options.several.is_some() { usize::MAX } else { 1 }),
            most_bytes: options.max_chars.map_or(COMMAND_BYTES, |limit| COMMAND_BYTES.min(limit - 1)),
            spread_over: spreads.then_some(options.slots),
        }
    }
}

/// What jobs have in common, with columns of these names.
fn shape(options: &Options, words: &Words, names: Vec<Vec<u8>>) -> Result<Shape, TemplateError> {
    let replace = options.replace.clone().filter(|replace| replace != b"{}");
    let vocabulary = Vocabulary { names, plus: options.plus, replace };
    let repeats_context = match options.several {
        Some(several) => several == Several::Context,
        None => options.max_replace_args.is_some() || options.max_lines.is_some(),
    };
    let command = match &options.pipe {
        Some(_) => Template::command_alone(&words.command, &vocabulary, options.quote)?,
        None => Template::command(&words.command, &vocabulary, options.quote, repeats_context)?,
    };
    let tag = options.tagstring.as_ref().map(|tag| Template::text(&with_tabs(tag), &vocabulary));
    Ok(Shape {
        command,
        tag: tag.transpose()?,
        vocabulary,
        slots: options.slots,
        is_piped: options.pipe.is_some(),
    })
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::job::{Composed, Start};
    use crate::random::Random;

    const START: Start = Start { slot: 3, total: 20 };

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    fn nothing<'a>(_: &Input) -> io::Result<Opened<'a>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn jobs(options: Options, line: &str) -> Result<Vec<Composed>, ComposeError> {
        Plan::new(options, words(line)).unwrap().jobs(nothing)?.collect()
    }

    #[test]
    fn texts_depend_on_where_a_job_starts() {
        let options =
            Options { plus: true, slots: 10, tagstring: Some(b"{}:{%}".into()), ..Options::default() };
        let plan = Plan::new(options, words("echo {%} {0%} {0#} {##} ::: a b")).unwrap();
        assert!(plan.needs_total() && plan.depends_on_slot());
        let jobs: Vec<_> = plan.jobs(nothing).unwrap().map(|job| job.unwrap()).collect();
        assert_eq!(jobs[1].command(START), b"echo 3 03 02 20");
        assert_eq!(jobs[1].tag(START), Some(b"b:3\t".to_vec()));
        let files = |results: &str| jobs[1].result_files(results.as_bytes(), START).unwrap();
        assert_eq!(files("r").stdout, Path::new("r/1/b/stdout"));
        assert_eq!(files("r/{}-{#}").sequence, Path::new("r/b-2.seq"));
        assert_eq!(files("{}/").stderr, Path::new("b/stderr"));
        assert_eq!(jobs[1].expand(b"{}.out", START), Ok(b"b.out".to_vec()));
        assert_eq!(jobs[1].expand_each(b"{#}", START), Ok(vec![b"2".to_vec()]));
        assert!(
            plan.check(b"{= $_++ =}").is_err() && plan.check(b"{/(/x}").is_err() && plan.check(b"{}").is_ok()
        );
        let plain = Plan::new(Options::default(), words("echo {#} ::: a")).unwrap();
        assert!(!plain.needs_total() && !plain.depends_on_slot());
    }

    #[test]
    fn each_argument_of_a_job_names_a_file() {
        let options = || Options { max_replace_args: Some(2), ..Options::default() };
        let jobs = jobs(options(), "echo ::: a.c b.c c.c").unwrap();
        let files = |job: usize, text: &[u8]| {
            let files = jobs[job].expand_each(text, START).unwrap();
            files.into_iter().map(|file| String::from_utf8(file).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(files(0, b"{}"), ["a.c", "b.c"]);
        assert_eq!(files(0, b"{#}/{.}.out"), ["1/a.out", "1/b.out"]);
        assert_eq!(files(0, b"{2}"), ["b.c"]);
        assert_eq!(files(1, b"{}"), ["c.c"]);
    }

    #[test]
    fn jobs_that_are_left_out_keep_their_number() {
        let plus = || Options { plus: true, ..Options::default() };
        let numbers = |line| jobs(plus(), line).unwrap().iter().map(Composed::sequence).collect::<Vec<_>>();
        assert_eq!(numbers("echo {uniq} ::: a b ::: a b"), [2, 3]);
        assert_eq!(numbers("echo {choose_k} ::: a b ::: a b"), [2]);
        assert_eq!(numbers("echo ::: a b ::: a b"), [1, 2, 3, 4]);
    }

    #[test]
    fn a_command_line_that_is_too_long_says_which_argument_it_has() {
        let options =
            || Options { max_chars: Some(10), several: Some(Several::Context), ..Options::default() };
        let error = jobs(options(), "echo ::: a aaaaaaaaaaaaaa").unwrap_err();
        let ComposeError::TooLong { sequence: 2, length: 19, limit: 9, argument } = error else {
            panic!("{error}")
        };
        assert_eq!(argument, "aaaaaaaaaaaaaa");
        let long = format!("echo ::: {}", "a".repeat(COMMAND_BYTES));
        assert!(matches!(
            jobs(Options::default(), &long),
            Err(ComposeError::TooLong { limit: COMMAND_BYTES, .. })
        ));
        assert!(matches!(
            Plan::new(Options { max_chars: Some(1), ..options() }, words("a")),
            Err(PlanError::NoRoom(1))
        ));
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let error = jobs(Options::default(), "echo :::: nofile").unwrap_err();
        assert_eq!(error.to_string(), "cannot read arguments from nofile");
        let plan = Plan::new(Options::default(), words("echo")).unwrap();
        let broken = || -> Opened<'static> {
            Box::new(
                [Ok(b"a".to_vec()), Err(io::ErrorKind::InvalidData.into()), Ok(b"b".to_vec())].into_iter(),
            )
        };
        let results: Vec<_> = plan.jobs(|_| Ok(broken())).unwrap().map(|job| job.is_ok()).collect();
        assert_eq!(results, [true, false]);
    }

    #[test]
    fn no_more_is_read_than_a_job_takes() {
        let plan =
            Plan::new(Options { max_replace_args: Some(2), ..Options::default() }, words("echo")).unwrap();
        let read = std::sync::atomic::AtomicUsize::new(0);
        let count = || {
            read.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(b"a".to_vec())
        };
        let mut jobs = plan.jobs(|_| Ok(Box::new(std::iter::repeat_with(count)))).unwrap();
        for taken in 1..=3 {
            jobs.next().unwrap().unwrap();
            assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), 2 * taken);
        }
    }

    #[test]
    fn commands_are_filled_with_as_much_as_fits() {
        let plan = Plan::new(
            Options { several: Some(Several::Xargs), slots: 1, ..Options::default() },
            words("echo"),
        );
        let values = (0..100_000).map(|number| Ok(format!("{number:07}").into_bytes()));
        let jobs = plan.unwrap().jobs(|_| Ok(Box::new(values.clone()))).unwrap();
        let lengths: Vec<_> = jobs.map(|job| job.unwrap().command(START).len()).collect();
        // Eight bytes each with the blank, after the four of the command.
        let most = (COMMAND_BYTES - 4) / 8;
        assert_eq!(lengths[..6], [4 + 8 * most; 6]);
        assert_eq!(lengths[6], 4 + 8 * (100_000 - 6 * most));
    }

    #[test]
    fn arguments_that_make_no_command_longer_are_not_read_without_end() {
        let options = Options { several: Some(Several::Context), slots: 1, ..Options::default() };
        let plan = Plan::new(options, words("echo {1}")).unwrap();
        let endless = std::iter::repeat_with(|| Ok(b"abcdefg".to_vec()));
        let job = plan.jobs(|_| Ok(Box::new(endless))).unwrap().next().unwrap().unwrap();
        assert_eq!(job.arguments().count(), COMMAND_BYTES.div_ceil(8));
        assert_eq!(job.command(START), b"echo abcdefg");
    }

    #[test]
    fn whatever_is_written_nothing_panics() {
        let mut random = Random::of_this_run();
        for _ in 0..20_000 {
            let signs = b"{}{}{}=:/.#%^,+-01298ab \\[]*?s\xff\t";
            let options = Options {
                plus: random.below(4) > 0,
                quote: random.below(4) == 0,
                link: random.below(4) == 0,
                header: random.below(4) == 0,
                replace: (random.below(8) == 0).then(|| random.bytes(2, signs)),
                tagstring: Some(random.bytes(10, signs)),
                colsep: Pattern::parse(&random.bytes(3, signs)).ok(),
                max_replace_args: [None, Some(0), Some(3)][random.below(3)],
                max_chars: (random.below(4) == 0).then(|| random.below(40) + 2),
                several: [None, Some(Several::Context), Some(Several::Once)][random.below(3)],
                slots: random.below(3),
                ..Options::default()
            };
            let mut words = vec![random.bytes(12, signs), random.bytes(12, signs)];
            for _source in 0..random.below(3) {
                words.push([b":::".to_vec(), b":::+".to_vec()][random.below(2)].clone());
                words.extend((0..random.below(4)).map(|_| random.bytes(6, signs)));
            }
            let Ok(plan) = Plan::new(options, words) else { continue };
            let input = [b"a".to_vec(), b"".to_vec()];
            let Ok(jobs) = plan.jobs(|_| Ok(Box::new(input.clone().into_iter().map(Ok)))) else { continue };
            for job in jobs.map_while(Result::ok) {
                let _ = (job.command(START), job.tag(START), job.result_files(b"r", START));
            }
        }
    }
}
