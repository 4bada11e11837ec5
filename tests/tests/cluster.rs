//! (being written)

fn main() {
    pp_dispatcher::init();
    pp_tests::harness::run(&[]);
}
