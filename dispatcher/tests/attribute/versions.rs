//! A program that two versions of a library are part of, with a job of the same path in each.

use pp_dispatcher::Dispatcher;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pp_dispatcher::init();
    let dispatcher = Dispatcher::builder().discover(false).nodes([""; 0]).local_workers(1).start()?;
    for n in 0..2 {
        println!("{}", dispatcher.submit(library_old::step, (n,)).wait()?);
        println!("{}", dispatcher.submit(library_new::step, (n,)).wait()?);
    }
    for step in [library_old::step, library_new::step] {
        println!("{}", dispatcher.submit(step, (2,)).wait()?);
    }
    Ok(())
}
