//! What shells and `man` are told of the command line: both are made of its description, so that they say what it says.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Arguments, print};

/// Prints what makes a shell complete command lines.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "ppctl", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the manual page of the program, or of one of its commands.
pub(crate) fn page(name: Option<&str>) -> anyhow::Result<ExitCode> {
    let mut program = Arguments::command();
    // Commands know the options and the name of the program then.
    program.build();
    let command = match name {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            Some(command) => command.clone(),
            None => bail!("there is no command {name}; ppctl --help lists those that there are"),
        },
    };
    let title = name.map_or_else(|| "ppctl".to_owned(), |name| format!("ppctl-{name}"));
    let mut page = Vec::new();
    let manual = clap_mangen::Man::new(command.version(env!("CARGO_PKG_VERSION"))).title(title);
    manual.render(&mut page).context("cannot make the page")?;
    print(&String::from_utf8_lossy(&page))?;
    Ok(ExitCode::SUCCESS)
}
