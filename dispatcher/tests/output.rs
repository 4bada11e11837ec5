//! Output of commands that is taken while they run.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use pp_dispatcher::{Ahead, CommandBuilder, Dispatcher, OutputPiece, OutputStream};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn dispatcher(callback_threads: usize) -> Dispatcher {
    let builder = Dispatcher::builder().in_process(true).local_workers(2).callback_threads(callback_threads);
    builder.start().expect("it starts")
}

fn shell(dispatcher: &Dispatcher, script: &str) -> CommandBuilder {
    dispatcher.command("/bin/sh").args(["-c", script])
}

/// What is told of a command.
#[derive(Debug, PartialEq)]
enum Told {
    Piece(OutputPiece),
    /// The rest of its output, with its result.
    End(Vec<u8>),
}

fn told_of(command: CommandBuilder, ahead: Ahead) -> Receiver<Told> {
    let (tell, told) = channel();
    let tell_end = tell.clone();
    let job =
        command.on_output(ahead, move |piece| tell.send(Told::Piece(piece)).expect("it is heard")).job();
    job.callback(move |result| {
        let rest = result.expect("it runs").stdout.to_vec();
        tell_end.send(Told::End(rest)).expect("it is heard");
    })
    .submit();
    told
}

/// All bytes that were told, with the end last.
fn all(told: &Receiver<Told>) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        match told.recv_timeout(PATIENCE).expect("it goes on") {
            Told::Piece(piece) => {
                assert_eq!((piece.attempt, piece.stream), (1, OutputStream::Stdout));
                bytes.extend_from_slice(&piece.bytes);
            }
            Told::End(rest) => {
                bytes.extend(rest);
                assert!(told.try_recv().is_err(), "the end is told last");
                return bytes;
            }
        }
    }
}

#[test]
fn all_output_comes_in_order_and_before_the_end_however_it_is_taken() {
    let output: Vec<u8> = (0..400_000).flat_map(|n: u32| format!("{n}\n").into_bytes()).collect();
    for threads in [1, 3] {
        let dispatcher = dispatcher(threads);
        let several: Vec<_> = [Ahead::Large, Ahead::Lines, Ahead::AtOnce]
            .map(|ahead| told_of(shell(&dispatcher, "seq 0 399999"), ahead))
            .into();
        for told in several {
            assert!(all(&told) == output);
        }
    }
}

#[test]
fn lines_are_whole_and_what_is_little_is_in_the_result() {
    let dispatcher = dispatcher(1);
    let script = "printf 'one\ntw'; sleep 0.1; printf 'o\nthr'";
    let told = told_of(shell(&dispatcher, script), Ahead::Lines);
    let pieces: Vec<_> = told.iter().collect();
    let (last, pieces) = pieces.split_last().expect("it ends");
    assert_eq!(*last, Told::End(Vec::new()));
    let pieces = pieces.iter().map(|told| match told {
        Told::Piece(piece) => &piece.bytes[..],
        end => panic!("{end:?}"),
    });
    assert_eq!(pieces.collect::<Vec<_>>(), [&b"one\n"[..], b"two\n", b"thr"]);
    let told = told_of(shell(&dispatcher, script), Ahead::Large);
    assert_eq!(told.iter().collect::<Vec<_>>(), [Told::End(b"one\ntwo\nthr".to_vec())]);
}

#[test]
fn a_command_waits_for_a_taker_that_is_busy_and_a_taker_that_panics_misses_what_it_was_given() {
    const BYTES: usize = 16 << 20;
    let dispatcher = dispatcher(1);
    let (begun, has_begun) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let mut taken = 0;
    let command = shell(&dispatcher, &format!("head -c {BYTES} /dev/zero; sleep 0.1; echo x"));
    let job = command.on_output(Ahead::AtOnce, move |piece| {
        if taken == 0 {
            begun.send(()).expect("it is heard");
            may_go_on.recv().expect("it is told");
        }
        taken += piece.bytes.len();
        assert!(taken <= BYTES, "this one is meant");
    });
    let job = job.job().submit();
    has_begun.recv_timeout(PATIENCE).expect("it begins");
    let job = job.wait_timeout(Duration::from_millis(500)).expect_err("it cannot write all of it");
    go_on.send(()).expect("it waits");
    assert!(job.wait().expect("it runs").status.is_success());
    assert!(dispatcher.wait_timeout(PATIENCE));
}
