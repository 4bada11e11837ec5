//! Options of GNU parallel that are refused, each with what to do instead.

/// Options, and what to do instead of them.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["--rpl", "--parens", "--filter"],
        "Perl is not run here; --plus has strings for most of it, as {%.gz}, {/old/new}, {uniq}",
    ),
    (
        &[
            "--sql",
            "--sqlmaster",
            "--sqlworker",
            "--sqlandworker",
            "--sql-master",
            "--sql-worker",
            "--sql-and-worker",
        ],
        "there is no database here; --joblog writes a table, and --results the output",
    ),
    (
        &["--tmux", "--tmuxpane"],
        "jobs have no terminal; --line-buffer --tag shows what they print while they run",
    ),
    (
        &["--fifo", "--cat"],
        "input goes to a job's standard input with --pipe; write the command so that it reads that",
    ),
    (
        &["--pipepart", "--pipe-part"],
        "a file is read here and sent in blocks either way; write ppctl run --pipe COMMAND < FILE",
    ),
    (
        &["--round-robin", "--roundrobin", "--round", "--rr"],
        "each block is a job of its own, which any free slot takes; make blocks larger with --block",
    ),
    (
        &["--tee", "--shard", "--bin", "--group-by", "--groupby"],
        "each block goes to one job; put what every job needs into a file, and -N, -L or --recend say where blocks end",
    ),
    (
        &["--regexp", "--regex"],
        "records end and start with plain text here; change the input so that they do, with sed for instance",
    ),
    (
        &["--block-timeout", "--blocktimeout", "--bt"],
        "a block is sent once it is full; make it smaller with --block, or count records with -N",
    ),
    (
        &["--skip-first-line", "--skipfirstline"],
        "take it off before, with tail -n +2; --header : gives the first line to every job",
    ),
    (
        &[
            "--semaphore",
            "--sem",
            "--semaphore-name",
            "--semaphorename",
            "--id",
            "--semaphore-timeout",
            "--semaphoretimeout",
        ],
        "there are no semaphores here; use sem or flock on this machine, or -j for how many jobs run at once",
    ),
    (&["--st", "--bg", "--fg", "--wait"], "there are no semaphores here; use sem or flock on this machine"),
    (
        &["--load", "--noswap", "--limit"],
        "each node runs as many jobs as it has slots; set --workers of ppserver there, or -j here",
    ),
    (
        &["--memfree", "--memsuspend"],
        "nodes limit the memory of a job; set --worker-memory of ppserver there, or give fewer jobs with -j",
    ),
    (&["--env-parallel", "--session", "--record-env", "--_parset"], ENVIRONMENT),
    (&["-S", "--sshlogin", "--slf", "--sshloginfile", "--ssh", "--ssh-delay", "--sshdelay"], SSH),
    (&["-M", "--controlmaster", "--filter-hosts", "--hostgroups", "--hgrp", "--rsync-opts"], SSH),
    (&["--onall", "--nonall"], "to run a command once on every node, use --each-node"),
    (
        &["--citation", "--bibtex"],
        "this is not GNU parallel; if you used that, its own --citation says how it is cited",
    ),
    (&["--csv"], "quoted columns are not read; --colsep , splits plain ones"),
    (
        &["--profile", "-J", "--embed", "--shebang", "--shebang-wrap", "--hashbang"],
        "write a script that calls ppctl run",
    ),
    (
        &["--extensionreplace", "--er", "--basenamereplace", "--bnr", "--dirnamereplace", "--dnr"],
        "the placeholders are {.} {/} {//} {/.} {#} {%}; only {} can be another word, with -I",
    ),
    (
        &["--basenameextensionreplace", "--bner", "--seqreplace", "--slotreplace"],
        "the placeholders are {.} {/} {//} {/.} {#} {%}; only {} can be another word, with -I",
    ),
    (
        &["--arg-sep", "--arg-file-sep"],
        "sources begin with ::: and ::::; put a command that needs these words into a script",
    ),
    (&["--process-slot-var", "--processslotvar"], "the slot is in $PARALLEL_JOBSLOT"),
    (&["-i"], "-I TEXT says what stands for the arguments; {} does without it"),
    (&["-e"], "-E TEXT says at which argument to end"),
    (&["-l"], "-L N puts up to N lines into each job"),
    (&["-x", "--exit"], "a command line that is too long even with one argument is an error anyway"),
    (&["-p", "--interactive"], "nobody is asked before a job; --dry-run shows the commands"),
    (&["-o", "--tty", "--open-tty"], "jobs have no terminal"),
    (&["-v"], "-t prints each command to standard error as its job is started"),
    (
        &["--color", "--colour", "--ctag", "--ctagstring", "--color-failed", "--cf"],
        "output is not coloured; --tag and --tagstring tell jobs apart, and --summary names those that failed",
    ),
    (
        &["--compress", "--compress-program", "--decompress-program", "--tmpdir"],
        "leave it out; TMPDIR says where output waits that is too much for memory",
    ),
    (&["--template", "--tmpl"], "files are not filled in; do that in the command, with sed for instance"),
    (&["--nice"], "write nice -n N before the command"),
    (&["--term-seq", "--termseq"], "a job that is stopped is killed at once, with all that it started"),
    (
        &["--number-of-cores", "--number-of-cpus", "--number-of-sockets", "--number-of-threads"],
        "nproc says it of this machine, and ppctl nodes how many jobs each node runs at once",
    ),
    (
        &[
            "--use-cores-instead-of-threads",
            "--use-cpus-instead-of-cores",
            "--use-sockets-instead-of-threads",
        ],
        "-j says how many jobs run at once, as a number or as N% of the cores",
    ),
    (
        &["--show-limits", "--max-line-length-allowed"],
        "a command line has up to 128 KiB; -s says that it is to have less",
    ),
    (
        &["--shell-quote", "--shellquote", "--shell_quote"],
        "arguments are quoted when they are put in; to see how, use --dry-run echo {}",
    ),
    (&["--shell-completion"], "ppctl completions prints it"),
    (&["--version", "-V", "--minversion"], "ppctl --version prints the version"),
    (&["--bug"], "it would print a report about GNU parallel, which this is not"),
    (&["--total-jobs", "--total"], "jobs are counted as they are composed; --bar shows how many there are"),
    (
        &["--latest-line", "--ll"],
        "--line-buffer prints lines as they come, and --bar shows how far the run has come",
    ),
];

const ENVIRONMENT: &str = "functions and aliases do not travel; --env NAME copies a variable, --basefile takes a script to every node";

const SSH: &str =
    "nothing goes over ssh here; start ppserver on the machine, and it is found, or name it with --node";

/// The line for an option that is refused, given as it is on the command line (`--tmux`, `--sqlmaster=URL`, `-S`).
///
/// ```
/// let line = pp_run::unsupported::refusal("--tmux").unwrap_or_default();
/// assert!(line.starts_with("--tmux is not offered: "));
/// ```
pub fn refusal(option: &str) -> Option<String> {
    let name = option.split('=').next().unwrap_or(option);
    let (_, advice) = REFUSED.iter().find(|(names, _)| names.contains(&name))?;
    Some(format!("{name} is not offered: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_refused_say_in_one_line_what_to_do() {
        for option in [
            "--rpl",
            "--sqlmaster=x",
            "--tmux",
            "--pipepart",
            "--rr",
            "--regexp",
            "--fifo",
            "--cat",
            "--load=1",
            "--memfree",
            "-S",
            "--citation",
        ] {
            let line = refusal(option).unwrap();
            assert!(!line.contains(['\n', '=']) && line.len() < 160, "{line}");
        }
        assert_eq!(refusal("-k"), None);
        assert_eq!(refusal("--link"), None);
    }

    #[test]
    fn no_option_is_refused_twice() {
        let mut names: Vec<_> = REFUSED.iter().flat_map(|(names, _)| *names).collect();
        names.sort_unstable();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}
