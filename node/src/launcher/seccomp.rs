//! System calls that no job needs which only computes, and that weaknesses of kernels have most often been in: refused, with
//! the error that says "not permitted" (seccomp(2)). Debuggers and tools that look into processes do not work then.
#![expect(unsafe_code, reason = "a filter is handed to the kernel")]

use std::io;

/// Refused.
const REFUSED: &[libc::c_long] = &[
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

/// The processor, as the kernel names it; other ones' system calls have other numbers.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00f3);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const ARCHITECTURE: Option<u32> = None;

/// On x86-64, numbers from here on are of another way of calling the kernel, and mean the same.
const X32: u32 = 0x4000_0000;
/// Where in what a filter sees the number and the architecture are.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;

/// Refuses these calls to this process and all that it starts, for good. It has to have given up gaining privileges.
///
/// # Errors
/// When the kernel has no such filters, or the names of its calls are not known for this processor.
pub(super) fn enforce() -> io::Result<()> {
    let architecture = ARCHITECTURE.ok_or(io::ErrorKind::Unsupported)?;
    let mut filter = filter(architecture);
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel reads the filter, which is there, and keeps a copy.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The filter, whose last two instructions refuse and allow.
fn filter(architecture: u32) -> Vec<libc::sock_filter> {
    let step = |code: u32, k: u32, jt: usize, jf: usize| libc::sock_filter {
        code: code as u16,
        jt: jt as u8,
        jf: jf as u8,
        k,
    };
    let load = |at| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0);
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let at_least = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    let to_refuse = REFUSED.len() + 3;
    let mut filter = vec![
        load(ARCHITECTURE_AT),
        step(equal, architecture, 0, to_refuse),
        load(NUMBER_AT),
        step(at_least, X32, to_refuse - 2, 0),
    ];
    for (n, number) in REFUSED.iter().enumerate() {
        filter.push(step(equal, *number as u32, REFUSED.len() - n, 0));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, ALLOW, 0, 0));
    filter.push(step(libc::BPF_RET | libc::BPF_K, REFUSE, 0, 0));
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says of a call.
    fn judged(filter: &[libc::sock_filter], architecture: u32, number: u32) -> u32 {
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
                    loaded = if k == NUMBER_AT { number } else { architecture };
                    at += 1;
                    continue;
                }
            };
            at += 1 + usize::from(if is_met { jt } else { jf });
        }
    }

    #[test]
    fn the_filter_refuses_what_is_listed_whatever_way_it_is_called_and_nothing_else() {
        let filter = filter(7);
        for number in REFUSED {
            assert_eq!(judged(&filter, 7, *number as u32), REFUSE, "{number}");
            assert_eq!(judged(&filter, 7, X32 + *number as u32), REFUSE);
            assert_eq!(judged(&filter, 8, *number as u32), REFUSE);
        }
        for number in [libc::SYS_read, libc::SYS_execve, libc::SYS_kill, libc::SYS_clone3] {
            assert_eq!(judged(&filter, 7, number as u32), ALLOW, "{number}");
        }
    }
}
