//! `ppctl`: looks after the nodes of a cluster, and runs commands on them.
//!
//! It is a dispatcher that sends no jobs of its own, but for those of `ppctl run`: what it sees of the nodes is what every
//! dispatcher sees.

mod drain;
mod explain;
mod find;
mod key;
mod manual;
mod nodes;
mod orders;
mod ping;
mod resize;
mod run;
mod secret;
mod top;
mod web;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use pp_dispatcher::{Builder, Dispatcher, NodeInfo, NodeKind, NodePattern, NodeState};
use pp_protocol::Role;

/// Time between two looks at nodes while waiting for them.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time in which nodes on the network are heard of.
const DISCOVERY: Duration = Duration::from_millis(1_500);
/// Longest search of the network.
const LONGEST_LOOK: Duration = Duration::from_secs(3_600);

/// Looks after the nodes of a cluster, and runs commands on them.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Nodes are found on the local network (mDNS; PP_DISCOVER=0 turns that off), in PP_NODES and in --node.\n\
        The secret is looked for in --secret-file, PP_SECRET, PP_SECRET_FILE and ~/.config/ppserver/secret.\n\
        The key of this machine is in PP_MACHINE_KEY or ~/.config/ppserver/machine_key.\n\n\
        Examples:\n  ppctl nodes\n  ppctl nodes --json --node render1:60000\n  ppctl resize render1 8\n  ppctl drain 'gpu*' --wait\n  ppctl explain render1\n  ppctl ping render1\n  ppctl secret new"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// A file that holds the secret and that only its owner can read
    #[arg(long, global = true, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Print JSON; with `run` a line for each job, instead of its output
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the nodes: found, connected, their slots and load; and those that refuse, with the reason. A node that lists
    /// machines (ppserver --authorized-keys) has to list this one with `operate`
    Nodes {
        /// Also look at this node: HOST, HOST:PORT or dns:NAME:PORT; or, of those that are found, only at those whose names
        /// fit a pattern such as 'gpu*'; may be repeated
        #[arg(long = "node", value_name = "ADDRESS")]
        nodes: Vec<String>,
        /// Look for nodes on the network for so many seconds
        #[arg(long, default_value = "1.5", value_name = "SECONDS", value_parser = seconds)]
        time: Duration,
        /// A block for each node instead of a line: also its processors, software, target and C library, and what its jobs
        /// are confined to
        #[arg(short, long)]
        verbose: bool,
        /// List them again and again, every so many seconds, until Ctrl-C: in place on a terminal, below each other
        /// elsewhere, with --json a line each time
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
        watch: Option<Duration>,
    },
    /// Change how many jobs nodes run at once, now. A node that lists machines (ppserver --authorized-keys) has to list this
    /// one with `operate`
    #[command(allow_missing_positional = true)]
    Resize {
        /// Look for them here too: HOST, HOST:PORT or dns:NAME:PORT; may be repeated
        #[arg(long = "node", value_name = "ADDRESS")]
        named: Vec<String>,
        /// Their names as `ppctl nodes` shows them, patterns ('gpu*'; ? is one character), or addresses: HOST or HOST:PORT;
        /// may be left out behind a single --node
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
        /// How many; 0 stops a node from taking jobs
        slots: usize,
    },
    /// Have nodes finish what runs, take no more, and end; what waits there runs elsewhere. A node that lists machines
    /// (ppserver --authorized-keys) has to list this one with `operate`
    Drain {
        /// Look for them here too: HOST, HOST:PORT or dns:NAME:PORT; may be repeated
        #[arg(long = "node", value_name = "ADDRESS")]
        named: Vec<String>,
        /// Their names as `ppctl nodes` shows them, patterns ('gpu*'; ? is one character), or addresses: HOST or HOST:PORT;
        /// may be left out behind a single --node
        #[arg(value_name = "NODE")]
        nodes: Vec<String>,
        /// Return when they have ended, and say meanwhile how many jobs still run
        #[arg(long)]
        wait: bool,
    },
    /// Say why nodes are not used, and why jobs have not ended: a paragraph for each, with the next step to take
    Explain {
        /// Look for them here too: HOST, HOST:PORT or dns:NAME:PORT; may be repeated
        #[arg(long = "node", value_name = "ADDRESS")]
        named: Vec<String>,
        /// Names of nodes as `ppctl nodes` shows them, patterns ('gpu*'; ? is one character), or addresses: HOST or HOST:PORT;
        /// or jobs of any program that runs, by the numbers that events and its output have: 17 or 17#2. None for all nodes
        #[arg(value_name = "NODE | JOB")]
        words: Vec<String>,
    },
    /// Measure how long a job takes to a node and back that does nothing there, waiting for a free slot included. A node that
    /// lists machines (ppserver --authorized-keys) has to let this one send jobs
    Ping {
        /// Look for it here too: HOST, HOST:PORT or dns:NAME:PORT; may be repeated
        #[arg(long = "node", value_name = "ADDRESS")]
        nodes: Vec<String>,
        /// Its name as `ppctl nodes` shows it, or its address: HOST or HOST:PORT
        node: String,
        /// How many jobs, one at a time
        #[arg(long, default_value_t = 10, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        count: u32,
    },
    /// Show the nodes and what they run as a page in a browser, served by this machine. A node that lists machines
    /// (ppserver --authorized-keys) has to list this one with `operate`
    Web(web::Options),
    /// Run a command for each argument, on this machine's cores and those of all nodes, in the words of GNU parallel
    Run(Box<run::Options>),
    /// Show the cluster at work: nodes, what their workers run, what runs longest and what failed last. Nodes that list
    /// machines (ppserver --authorized-keys) have to list this one with `operate`
    Top(top::Options),
    /// Make, show, find and replace the secret of a cluster
    #[command(subcommand)]
    Secret(secret::Command),
    /// Make or show the key of this machine, for nodes that let in only machines they list (ppserver --authorized-keys)
    #[command(subcommand)]
    Key(key::Command),
    /// Print what makes a shell complete command lines, as in: ppctl completions bash >
    /// ~/.local/share/bash-completion/completions/ppctl
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, as in: ppctl man run | man -l -
    Man {
        /// The page of this command
        command: Option<String>,
    },
}

fn main() -> ExitCode {
    // Nodes may start any program as a worker, this one too.
    pp_dispatcher::init();
    pp_node::on_enough_stack(run)
}

fn run() -> ExitCode {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| match std::env::args_os().nth(1) {
        // As GNU parallel has it: other codes say how many jobs failed.
        Some(command) if command == "run" && error.use_stderr() => {
            match run::refusal(&error) {
                Some(refusal) => warn(&refusal),
                None => drop(error.print()),
            }
            std::process::exit(run::WRONG.into())
        }
        _ => error.exit(),
    });
    let done = match &arguments.command {
        Command::Secret(command) => secret::run(&arguments, command),
        Command::Nodes { nodes, time, verbose, watch } => {
            nodes::run(&arguments, nodes, nodes::Manner { time: *time, verbose: *verbose, watch: *watch })
        }
        Command::Ping { nodes, node, count } => ping::run(&arguments, nodes, node, *count),
        Command::Web(options) => web::run(&arguments, options),
        Command::Key(command) => key::run(&arguments, command),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man { command } => manual::page(command.as_deref()),
        Command::Run(options) => run::run(&arguments, options),
        Command::Top(options) => top::run(&arguments, options),
        Command::Resize { named, nodes, slots } => resize::run(&arguments, named, nodes, *slots),
        Command::Explain { named, words } => explain::run(&arguments, named, words),
        Command::Drain { named, nodes, wait } => drain::run(&arguments, named, nodes, *wait),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            // There is nobody to tell if standard error is closed.
            let _ = writeln!(io::stderr(), "ppctl: {}", told_once(&error));
            let is_run = matches!(arguments.command, Command::Run(_));
            if is_run { ExitCode::from(run::WRONG) } else { ExitCode::FAILURE }
        }
    }
}

/// Reads a time in seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = time.filter(|time| *time <= LONGEST_LOOK);
    time.ok_or_else(|| format!("it has to be a number of seconds from 0 to {}", LONGEST_LOOK.as_secs()))
}

/// Says how a dispatcher is set up that looks at the nodes of the environment and these: as an operator, who runs no jobs, or
/// as one who does. Nodes that list machines may let in this one as one of them only.
fn look(arguments: &Arguments, nodes: &[String], role: Role) -> Builder {
    let builder = match role {
        Role::Operator => Dispatcher::builder().observer(true),
        Role::Dispatcher => Dispatcher::builder().local_workers(0).only_built_in(true),
    };
    let builder = nodes.iter().fold(builder.discover_by_default(true), |builder, node| {
        if NodePattern::new(node).is_of_several() {
            builder.found_nodes(node)
        } else {
            builder.more_nodes([node])
        }
    });
    match &arguments.secret_file {
        Some(path) => builder.secret_file(path),
        None => builder,
    }
}

/// Writes what was asked for to standard output. Whoever reads it may have seen enough before its end.
fn print(text: &str) -> io::Result<()> {
    is_read(text).map(drop)
}

/// The same. False if nobody reads any more.
fn is_read(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells people what they should know, beside what was asked for.
fn warn(text: &str) {
    // There is nobody to tell if standard error is closed.
    let _ = writeln!(io::stderr(), "ppctl: {text}");
}

/// Every node but the one that is this program.
fn remote(dispatcher: &Dispatcher) -> Vec<NodeInfo> {
    dispatcher.nodes().into_iter().filter(|node| node.kind != NodeKind::Local).collect()
}

/// Waits until `found` yields something, for at most `time`.
fn wait_for<T>(time: Duration, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        match found() {
            None if Instant::now() < deadline => std::thread::park_timeout(LOOK_EVERY),
            found => return found,
        }
    }
}

/// Whether it is known how the dispatcher stands with the node.
fn is_settled(node: &NodeInfo) -> bool {
    node.state != NodeState::Connecting
}

/// An error and its causes, but for those whose words are in what is said already.
fn told_once(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| match cause.to_string() {
        text if told.contains(&text) => told,
        text if told.is_empty() => text,
        text => format!("{told}: {text}"),
    })
}
