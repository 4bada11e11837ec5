//! System calls that are refused to jobs, with the error that says "not permitted" (seccomp(2)).
//!
//! Always: limits of other processes, by which a job could have the kernel end its node (`prlimit(2)`, which Landlock does not
//! guard). At `strict` also those that no job needs which only computes, and that weaknesses of kernels have most often been
//! in. Debuggers and tools that look into processes do not work then.
#![expect(unsafe_code, reason = "a filter is handed to the kernel")]

use std::io;

/// Refused at `strict`.
pub(super) const REFUSED: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
];

/// The processor, as the kernel names it; and the number that `prlimit64` has for its programs of 32 bits, whose system
/// calls have other numbers.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<(u32, u32)> = Some((0xc000_003e, 340));
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<(u32, u32)> = Some((0xc000_00b7, 369));
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: Option<(u32, u32)> = Some((0xc000_00f3, 261));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const ARCHITECTURE: Option<(u32, u32)> = None;

/// On x86-64, numbers from here on are of another way of calling the kernel, and mean the same.
const X32: u32 = 0x4000_0000;
/// Where in what a filter sees the number, the architecture and the first argument's lower half are.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const PROCESS_AT: u32 = 16;
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;

/// Whether there is such a filter for this processor and kernel.
pub(super) fn is_there() -> bool {
    // SAFETY: it is given no memory.
    ARCHITECTURE.is_some() && unsafe { libc::prctl(libc::PR_GET_SECCOMP) } >= 0
}

/// Refuses these calls, and to limit others, to this process and all that it starts, for good. It has to have given up
/// gaining privileges.
///
/// # Errors
/// When the kernel has no such filters, or the names of its calls are not known for this processor.
pub(super) fn enforce(refused: &[libc::c_long]) -> io::Result<()> {
    let (architecture, foreign) = ARCHITECTURE.ok_or(io::ErrorKind::Unsupported)?;
    let mut filter = filter(architecture, foreign, refused);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel reads the filter, which is there, and keeps a copy.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The filter. Where calls are refused, those of other architectures are; else their `foreign` number of `prlimit64` is
/// known. Its parts, in order: the choice of the architecture, others' calls, this one's, the process whose limits are meant,
/// and the two ends.
fn filter(architecture: u32, foreign: u32, refused: &[libc::c_long]) -> Vec<libc::sock_filter> {
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    let is_strict = !refused.is_empty();
    let own = if is_strict { 3 } else { 4 };
    let limits = own + 2 + refused.len() + 1;
    let (allow, refuse) = (limits + 2, limits + 3);
    let mut filter: Vec<libc::sock_filter> = Vec::with_capacity(refuse + 1);
    let mut step = |code: u32, k: u32, met: usize, unmet: usize| {
        // Jumps count from the next step on, and lead there where no other is given.
        let next = filter.len() + 1;
        let (jt, jf) = (met.saturating_sub(next) as u8, unmet.saturating_sub(next) as u8);
        filter.push(libc::sock_filter { code: code as u16, jt, jf, k });
    };
    let (load, end) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_RET | libc::BPF_K);
    step(load, ARCHITECTURE_AT, 0, 0);
    step(EQUAL, architecture, own, 0);
    if is_strict {
        step(end, REFUSE, 0, 0);
    } else {
        step(load, NUMBER_AT, 0, 0);
        step(EQUAL, foreign, limits, allow);
    }
    step(load, NUMBER_AT, 0, 0);
    step(AT_LEAST, X32, refuse, 0);
    for number in refused {
        step(EQUAL, *number as u32, refuse, 0);
    }
    step(EQUAL, libc::SYS_prlimit64 as u32, limits, allow);
    step(load, PROCESS_AT, 0, 0);
    step(EQUAL, 0, allow, refuse);
    step(end, ALLOW, 0, 0);
    step(end, REFUSE, 0, 0);
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says of a call with this first argument.
    fn judged(filter: &[libc::sock_filter], architecture: u32, number: u32, process: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = filter[at];
            let code = u32::from(code);
            if code == libc::BPF_RET | libc::BPF_K {
                return k;
            }
            let is_met = match code & 0xf0 {
                0x10 => loaded == k,
                0x30 => loaded >= k,
                _ => {
                    loaded = match k {
                        NUMBER_AT => number,
                        ARCHITECTURE_AT => architecture,
                        _ => process,
                    };
                    at += 1;
                    continue;
                }
            };
            at += 1 + usize::from(if is_met { jt } else { jf });
        }
    }

    #[test]
    fn the_filter_refuses_what_is_listed_whatever_way_it_is_called_and_nothing_else() {
        let (strict, usual) = (filter(7, 340, REFUSED), filter(7, 340, &[]));
        for number in REFUSED {
            assert_eq!(judged(&strict, 7, *number as u32, 0), REFUSE, "{number}");
            assert_eq!(judged(&strict, 7, X32 + *number as u32, 0), REFUSE);
            assert_eq!(judged(&strict, 8, *number as u32, 0), REFUSE);
            assert_eq!(judged(&usual, 7, *number as u32, 1), ALLOW, "{number}");
        }
        for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_kill, libc::SYS_clone3] {
            assert_eq!(judged(&strict, 7, number as u32, 1), ALLOW, "{number}");
            assert_eq!(judged(&usual, 7, number as u32, 1), ALLOW, "{number}");
            assert_eq!(judged(&usual, 8, number as u32, 1), ALLOW, "{number}");
        }
        assert!(strict.len() < usize::from(u8::MAX), "a jump goes no further");
    }

    #[test]
    fn a_process_limits_itself_and_no_other() {
        let limits = libc::SYS_prlimit64 as u32;
        for filter in [filter(7, 340, REFUSED), filter(7, 340, &[])] {
            assert_eq!((judged(&filter, 7, limits, 0), judged(&filter, 7, limits, 12)), (ALLOW, REFUSE));
            assert_eq!(judged(&filter, 7, X32 + limits, 12), REFUSE);
            assert_eq!(judged(&filter, 8, 340, 12), REFUSE, "from a program of 32 bits");
        }
        assert_eq!(judged(&filter(7, 340, &[]), 8, 340, 0), ALLOW);
    }
}
