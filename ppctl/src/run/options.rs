//! Options of `ppctl run`, in the words of GNU parallel.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::ArgAction;
use pp_dispatcher::progress::Form;
use pp_dispatcher::{Builder, JobsPerNode};
use pp_run::blocks::Separator;
use pp_run::counts::parse_size;
use pp_run::halt::{Halt, Tally};
use pp_run::joblog::Resume;
use pp_run::quote::quoted;
use pp_run::times::{Timeout, parse_time};
use pp_run::{Input, Pattern, Piping, Plan, Several, Trim};

use super::files::FileOptions;
use super::output::Grouping;
use super::results::Results;

use super::share::Share;

/// What stands for this machine among nodes.
const THIS_MACHINE: &str = ":";

/// A time limit; 0 is none. (clap would take an option of an option apart.)
type Limit = Option<Timeout>;
/// A reason to stop; `never` is none.
type Stop = Option<Halt>;

/// So many jobs need no summary.
const FEW_JOBS: u64 = 8;

/// What is said of arguments, of which there are none with `--pipe`.
const NOT_WITH_PIPE: [&str; 14] = [
    "null",
    "delimiter",
    "colsep",
    "trim",
    "end",
    "no_run_if_empty",
    "link",
    "shuf",
    "context",
    "several",
    "xargs",
    "max_chars",
    "replace",
    "retry_failed",
];

/// Run a command for each argument, on this machine's cores and on all nodes, in the words of GNU parallel
#[derive(Debug, clap::Args)]
#[command(
    args_override_self = true,
    after_help = "Placeholders:\n  \
          {}    the argument           {2}   the second argument, {2.} and so on\n  \
          {.}   without its extension  {#}   the number of the job\n  \
          {/}   its file name          {%}   its slot\n  \
          {//}  its directory          {/.}  its file name without extension\n\
        Without any, arguments come last. Without ::: and :::: they are the lines of\n\
        standard input.\n\n\
        The command is a line for /bin/sh. It runs where ppctl runs on this machine, and\n\
        in an empty directory on others, which need nothing but the programs it names.\n\n\
        Examples:\n  \
          ppctl run gzip -9 ::: *.log\n  \
          ppctl run -k convert {} {.}.png ::: *.jpg\n  \
          seq 100 | ppctl run --bar --joblog log ./simulate --seed {}\n  \
          ppctl run -k --pipe --block 10M grep -c error < huge.log\n\n\
        Exit code: how many jobs failed, 101 if more than 100 did, 255 if the run itself\n\
        went wrong."
)]
pub(crate) struct Options {
    /// Jobs at once on each node, this machine included: a number, or +N, -N or N% of its cores; 0 for as many as possible. A
    /// node never runs more than it has slots
    #[arg(
        short,
        long,
        short_alias = 'P',
        alias = "max-procs",
        value_name = "N",
        allow_hyphen_values = true,
        help_heading = "How it runs"
    )]
    jobs: Option<String>,
    /// Also use the node at this address: HOST, HOST:PORT or dns:NAME:PORT. With * or ? in it: of the nodes that are found, use
    /// only those whose name fits. May be repeated
    #[arg(long = "node", value_name = "NODE", help_heading = "How it runs")]
    nodes: Vec<String>,
    /// Do not use this node: its name, a pattern with * or ?, or its address; ':' is this machine. May be repeated
    #[arg(long = "not-node", value_name = "NODE", help_heading = "How it runs")]
    not_nodes: Vec<String>,
    /// Run each job once on every node, in order and one at a time unless -j says otherwise; without arguments, the command once
    /// on every node
    #[arg(long, conflicts_with_all = ["resume", "resume_failed", "retry_failed", "pipe"], help_heading = "How it runs")]
    pub(super) each_node: bool,
    /// Kill a job that runs longer: seconds, or 2m, 1h30m, 1d; or 200% of what half of the jobs take at most
    #[arg(long, allow_negative_numbers = true, value_name = "TIME", value_parser = Timeout::parse, help_heading = "How it runs")]
    pub(super) timeout: Option<Limit>,
    /// Run a job that fails up to N times in all
    #[arg(long, allow_negative_numbers = true, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), help_heading = "How it runs")]
    pub(super) retries: u32,
    /// Times a job may be running as its node dies
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "How it runs")]
    pub(super) max_attempts: Option<u32>,
    /// When to stop: 'now' (kill what runs) or 'soon', a comma, and fail=N, success=N or done=N, or N%
    #[arg(long, alias = "halt-on-error", allow_hyphen_values = true, value_name = "WHEN", value_parser = Halt::parse, help_heading = "How it runs")]
    halt: Option<Stop>,
    /// Wait so long between the starts of two jobs
    #[arg(long, allow_negative_numbers = true, value_name = "TIME", value_parser = parse_time, help_heading = "How it runs")]
    pub(super) delay: Option<Duration>,
    /// Run jobs in this directory, which every machine has to have; '...': in an empty one that goes with the job
    #[arg(long, visible_alias = "workdir", value_name = "DIR", help_heading = "How it runs")]
    pub(super) wd: Option<OsString>,
    /// Give jobs this variable of ppctl's environment; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "How it runs")]
    pub(super) env: Vec<String>,
    /// Show the commands and run none
    #[arg(long, alias = "dryrun", help_heading = "How it runs")]
    pub(super) dry_run: bool,

    #[command(flatten)]
    pub(super) files: FileOptions,

    /// Print output in the order of the arguments
    #[arg(short, long, overrides_with = "no_keep_order", help_heading = "Output")]
    pub(super) keep_order: bool,
    /// Print output as jobs end, also where an alias says -k
    #[arg(long, aliases = ["nokeeporder", "nok", "no-k"], overrides_with = "keep_order", hide = true)]
    no_keep_order: bool,
    /// Print output as it comes, line by line; with -k that of the first job that has not ended
    #[arg(long, visible_alias = "lb", alias = "linebuffer", overrides_with = "ungroup", conflicts_with_all = ["results", "prints_names"], help_heading = "Output")]
    line_buffer: bool,
    /// Print output as it comes; lines of several jobs may mix
    #[arg(short = 'u', long, overrides_with = "line_buffer", conflicts_with_all = ["results", "prints_names"], help_heading = "Output")]
    ungroup: bool,
    /// Put the arguments before each line of output
    #[arg(long, help_heading = "Output")]
    tag: bool,
    /// Put this text before each line of output; placeholders are filled in
    #[arg(long, value_name = "TEXT", help_heading = "Output")]
    tagstring: Option<OsString>,
    /// Show how far the run has come, as a bar below the output; where standard error is no terminal, as a line every 10 seconds
    #[arg(long, help_heading = "Output")]
    bar: bool,
    /// Show the same as numbers
    #[arg(long, visible_alias = "eta", help_heading = "Output")]
    progress: bool,
    /// Say at the end how many jobs failed, which took longest, and where they ran; this is said anyway on a terminal, of more
    /// than a few jobs
    #[arg(long, help_heading = "Output")]
    summary: bool,
    /// Do not say that, nor that the terminal is read
    #[arg(long, conflicts_with = "summary", help_heading = "Output")]
    pub(super) quiet: bool,
    /// Print each command to standard error as its job is started
    #[arg(short = 't', long, help_heading = "Output")]
    pub(super) verbose: bool,
    /// Write a line for each job that has ended to this file; +FILE appends. Should ppctl be killed, what runs still ends and is
    /// logged
    #[arg(long, alias = "jl", value_name = "FILE", help_heading = "Output")]
    pub(super) joblog: Option<OsString>,

    /// Skip jobs that are in the job log
    #[arg(long, help_heading = "Output")]
    resume: bool,
    /// Skip jobs that are in the job log and did not fail
    #[arg(long, help_heading = "Output")]
    resume_failed: bool,
    /// Run the jobs again that failed according to the job log, and no others
    #[arg(long, help_heading = "Output")]
    pub(super) retry_failed: bool,
    /// Write output to files instead of printing it: DIR/1/ARGUMENT/stdout and so on, or what placeholders in it name
    #[arg(long, visible_alias = "res", value_name = "DIR", help_heading = "Output")]
    results: Option<OsString>,
    /// Print the names of files with the output instead: those of --results, or temporary ones
    #[arg(long = "files", aliases = ["output-as-files", "outputasfiles"], help_heading = "Output")]
    prints_names: bool,
    /// Means nothing here, or what is so anyway
    #[arg(long, aliases = ["no-notice", "nn", "gnu", "plain", "silent", "group", "ctrlc", "tollef"], action = ArgAction::Count, hide = true)]
    will_cite: u8,

    /// Read arguments from this file; may be repeated
    #[arg(short = 'a', long, value_name = "FILE", help_heading = "Arguments")]
    arg_file: Vec<OsString>,
    /// Arguments are ended by a zero byte
    #[arg(short = '0', long, help_heading = "Arguments")]
    null: bool,
    /// Arguments are ended by this text
    #[arg(short = 'd', long, value_name = "TEXT", conflicts_with = "null", help_heading = "Arguments")]
    delimiter: Option<OsString>,
    /// Cut each line into columns {1}, {2}, ... at this text
    #[arg(short = 'C', long, value_name = "TEXT", help_heading = "Arguments")]
    colsep: Option<OsString>,
    /// ':': the first line names the columns
    #[arg(long, value_name = "LINES", help_heading = "Arguments")]
    header: Option<String>,
    /// Take white space off arguments: l, r, lr or n
    #[arg(long, value_name = "WHERE", help_heading = "Arguments")]
    trim: Option<String>,
    /// Arguments end at this one; an empty text is none
    #[arg(short = 'E', long = "eof", value_name = "TEXT", help_heading = "Arguments")]
    end: Option<OsString>,
    /// Skip empty arguments
    #[arg(short = 'r', long, help_heading = "Arguments")]
    no_run_if_empty: bool,
    /// Take one argument of each source together, instead of each with each
    #[arg(long, visible_alias = "xapply", help_heading = "Arguments")]
    link: bool,
    /// Mix the jobs
    #[arg(long, help_heading = "Arguments")]
    shuf: bool,
    /// Put up to N arguments into each job
    #[arg(short = 'n', long, allow_negative_numbers = true, value_parser = number, value_name = "N", help_heading = "Arguments")]
    max_args: Option<usize>,
    /// Put up to N arguments into each job, as {1} to {N}
    #[arg(short = 'N', long, allow_negative_numbers = true, value_parser = number, value_name = "N", help_heading = "Arguments")]
    max_replace_args: Option<usize>,
    /// Put up to N lines into each job
    #[arg(short = 'L', long, allow_negative_numbers = true, value_parser = number, value_name = "N", help_heading = "Arguments")]
    max_lines: Option<usize>,
    /// As many arguments to a job as fit; the word around {} is repeated
    #[arg(short = 'X', help_heading = "Arguments")]
    context: bool,
    /// As many arguments to a job as fit
    #[arg(short = 'm', help_heading = "Arguments")]
    several: bool,
    /// As many arguments to a job as fit, without spreading the last over all slots
    #[arg(long, help_heading = "Arguments")]
    xargs: bool,
    /// Longest command line, in bytes
    #[arg(short = 's', long, allow_negative_numbers = true, value_parser = number, value_name = "BYTES", help_heading = "Arguments")]
    max_chars: Option<usize>,
    /// Quote the command, so that the shell does nothing with it
    #[arg(short = 'q', long, help_heading = "Arguments")]
    quote: bool,
    /// Placeholders of bash's kind, too: {..}, {%suffix}, {#prefix}, {/a/b}, {^a}, {:1:2}, {##}
    #[arg(long, help_heading = "Arguments")]
    plus: bool,
    /// This text instead of {}
    #[arg(short = 'I', long, value_name = "TEXT", help_heading = "Arguments")]
    replace: Option<OsString>,

    /// Cut standard input into blocks at line ends, and give each job one as its standard input
    #[arg(long, visible_alias = "spreadstdin", conflicts_with_all = NOT_WITH_PIPE, help_heading = "Standard input")]
    pub(super) pipe: bool,
    /// Size of a block, which has as many whole records as fit; k, m, g are of 1000, K, M, G of 1024
    #[arg(long, aliases = ["blocksize", "block-size"], requires = "pipe", value_name = "SIZE", value_parser = parse_size, default_value = "1M", help_heading = "Standard input")]
    block: usize,
    /// Records end with this text, instead of lines; with -N, -n or -L each job is given so many
    #[arg(long, requires = "pipe", value_name = "TEXT", help_heading = "Standard input")]
    recend: Option<OsString>,
    /// Records start with this text
    #[arg(long, requires = "pipe", value_name = "TEXT", help_heading = "Standard input")]
    recstart: Option<OsString>,
    /// Leave these texts out
    #[arg(long, aliases = ["rrs", "removerecsep"], requires = "pipe", help_heading = "Standard input")]
    remove_rec_sep: bool,

    /// The command, and its arguments behind `:::`, or files with them behind `::::`
    #[arg(trailing_var_arg = true, value_name = "COMMAND [::: ARGUMENTS]")]
    words: Vec<OsString>,
}

impl Options {
    /// What is run, with so many slots.
    pub(super) fn plan(&self, slots: usize) -> anyhow::Result<Plan> {
        let several = match (self.context, self.several, self.xargs) {
            (true, ..) => Some(Several::Context),
            (_, true, _) => Some(Several::Once),
            (_, _, true) => Some(Several::Xargs),
            _ => None,
        };
        let trim =
            |text: &String| Trim::parse(text).ok_or_else(|| anyhow!("--trim {text}: write l, r, lr or n"));
        let colsep = self.colsep.clone().map(|text| Pattern::parse(&text.into_vec())).transpose();
        let options = pp_run::Options {
            arg_files: self.arg_file.iter().map(|file| Input::named(file.clone().into_vec())).collect(),
            colsep: colsep.context("--colsep")?,
            header: self.header.as_deref().map(Plan::names_columns).transpose()?.unwrap_or_default(),
            trim: self.trim.as_ref().map(trim).transpose()?,
            end_of_file: self.end.clone().filter(|end| !end.is_empty()).map(OsString::into_vec),
            no_run_if_empty: self.no_run_if_empty,
            link: self.link,
            shuf: self.shuf.then(seed),
            plus: self.plus,
            replace: self.replace.clone().map(OsString::into_vec),
            quote: self.quote,
            tagstring: self
                .tagstring()
                .cloned()
                .or((self.tag && !self.tags_nodes()).then(|| self.argument_word()))
                .map(OsString::into_vec),
            max_args: self.max_args,
            max_replace_args: self.max_replace_args,
            max_lines: self.max_lines,
            max_chars: self.max_chars,
            several,
            pipe: self.piping()?,
            slots,
        };
        Ok(Plan::new(options, self.words.iter().map(|word| word.clone().into_vec()).collect())?)
    }

    /// What stands before each line; an empty text is none.
    fn tagstring(&self) -> Option<&OsString> {
        self.tagstring.as_ref().filter(|text| !text.is_empty())
    }

    /// The word that stands for the arguments.
    fn argument_word(&self) -> OsString {
        self.replace.clone().unwrap_or_else(|| "{}".into())
    }

    /// How standard input is cut into blocks.
    fn piping(&self) -> anyhow::Result<Option<Piping>> {
        if !self.pipe {
            return Ok(None);
        }
        if Tally::new(self.halt()).needs_total() {
            bail!("--pipe does not know how many jobs there will be: write --halt with a number, without %");
        }
        let bytes = |text: &Option<OsString>| text.clone().map(OsString::into_vec);
        let separator = Separator::parse(bytes(&self.recend).as_deref(), bytes(&self.recstart).as_deref());
        Ok(Some(Piping {
            block_bytes: self.block,
            separator: separator.context("--recend and --recstart")?,
            removes_separators: self.remove_rec_sep,
        }))
    }

    /// Input that a job is expected to have.
    pub(super) fn block_bytes(&self) -> usize {
        if self.pipe { self.block } else { 0 }
    }

    /// How it is shown how far the run has come, if it is.
    pub(super) fn progress(&self) -> Option<Form> {
        match (self.bar, self.progress) {
            (true, _) => Some(Form::Bar),
            (false, true) => Some(Form::Text),
            (false, false) => None,
        }
    }

    /// How output of several jobs goes together.
    pub(super) fn grouping(&self) -> Grouping {
        match (self.line_buffer, self.ungroup) {
            (true, _) => Grouping::Lines,
            (false, true) => Grouping::None,
            (false, false) => Grouping::Whole,
        }
    }

    /// What is said to somebody who may not know that the terminal is read.
    pub(super) fn reads_terminal(&self) -> &'static str {
        if self.pipe {
            "the input of jobs is read from this terminal, and ends with Ctrl-D; write < FILE or pipe something in for other input"
        } else if self.words.is_empty() {
            "commands are read from this terminal, one a line, and end with Ctrl-D"
        } else {
            "arguments are read from this terminal, one a line, and end with Ctrl-D; write ::: before arguments on the command line"
        }
    }

    /// Whether a summary is given of so many jobs.
    pub(super) fn wants_summary(&self, jobs: u64) -> bool {
        self.summary || (!self.quiet && jobs > FEW_JOBS && io::stderr().is_terminal())
    }

    /// What ends an argument that is read.
    pub(super) fn delimiter(&self) -> anyhow::Result<Vec<u8>> {
        match &self.delimiter {
            _ if self.null => Ok(vec![0]),
            Some(text) => Ok(pp_run::parse_delimiter(&text.clone().into_vec())?),
            None => Ok(vec![b'\n']),
        }
    }

    /// When to stop early.
    pub(super) fn halt(&self) -> Option<Halt> {
        self.halt.flatten()
    }

    /// Which jobs of an earlier run are run again, if it is gone on with.
    pub(super) fn resume(&self) -> Option<Resume> {
        match (self.resume_failed || self.retry_failed, self.resume) {
            (true, _) => Some(Resume::Failed),
            (false, true) => Some(Resume::Unfinished),
            (false, false) => None,
        }
    }

    /// The files that output is kept in.
    pub(super) fn results(&self, plan: &Plan) -> anyhow::Result<Option<Results>> {
        Results::new(self.results.as_ref(), self.prints_names, plan, self.retry_failed)
    }

    /// The file of the job log, and whether it is written on.
    pub(super) fn joblog(&self) -> Option<(PathBuf, bool)> {
        let name = self.joblog.clone()?.into_vec();
        Some(match name.strip_prefix(b"+") {
            Some(name) => (OsString::from_vec(name.to_vec()).into(), true),
            None => (OsString::from_vec(name).into(), false),
        })
    }

    /// How many jobs run where, on a machine with so many cores.
    pub(super) fn share(&self, cores: usize) -> anyhow::Result<Share> {
        let mut share = Share::parse(self.jobs.as_deref(), cores)?;
        if self.not_nodes.iter().any(|node| node == THIS_MACHINE) {
            share.local_workers = 0;
        }
        if self.each_node && self.jobs.is_none() {
            share.per_node = Some(JobsPerNode::Exactly(1));
        }
        Ok(share)
    }

    /// Whether jobs read the number of their slot from their environment, as far as the command line shows. Then they are not
    /// submitted ahead: what waits has no slot.
    pub(super) fn names_slots(&self) -> bool {
        const NAME: &[u8] = b"PARALLEL_JOBSLOT";
        self.words.iter().any(|word| word.as_bytes().windows(NAME.len()).any(|part| part == NAME))
    }

    /// Has a dispatcher use the nodes that are wanted, and no others.
    pub(super) fn select_nodes(&self, builder: Builder) -> Builder {
        let builder = self.nodes.iter().fold(builder, |builder, node| match node.contains(['*', '?']) {
            true => builder.found_nodes(node),
            false => builder.more_nodes([node]),
        });
        let left_out = self.not_nodes.iter().filter(|node| *node != THIS_MACHINE);
        left_out.fold(builder, Builder::without_node)
    }

    /// Whether `--tag` is for the node of a job, not for its arguments.
    pub(super) fn tags_nodes(&self) -> bool {
        self.tag && self.each_node && self.tagstring().is_none()
    }

    /// The one command of a run that is to be on every node and has no arguments.
    pub(super) fn only_command(&self) -> Option<Vec<u8>> {
        let words = || self.words.iter().map(|word| word.as_bytes());
        let has_arguments = !self.arg_file.is_empty() || words().any(|word| word.starts_with(b":::"));
        let command = || words().map(|word| if self.quote { quoted(word) } else { word.to_vec() });
        (self.each_node && !has_arguments && !self.words.is_empty())
            .then(|| command().collect::<Vec<_>>().join(&b' '))
    }
}

/// Reads how many there are to be of something.
fn number(text: &str) -> Result<usize, String> {
    let number = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|text| text.parse().ok()).ok_or_else(|| "it has to be a whole number, 0 or more".into())
}

/// A seed that is another one each time.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}
