//! A mapped file that another program cuts short while pare reads it ends in a bus error. This says so, instead of dying silently.

/// From now on a bus error prints one line and ends the process with exit code 1.
pub(crate) fn say_what_happened() {
    #[cfg(unix)]
    {
        extern "C" fn stop(_: libc::c_int) {
            let text = b"pare: a model file was changed by another program while it was being read; run again when it is whole\n";
            // SAFETY: write and _exit may be called in a signal handler; the buffer is a constant.
            unsafe {
                libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
                libc::_exit(1);
            }
        }
        let handler = stop as extern "C" fn(libc::c_int);
        // SAFETY: the handler only makes calls that are allowed in one; pare installs no other handler for this signal.
        unsafe {
            libc::signal(libc::SIGBUS, handler as libc::sighandler_t);
        }
    }
}
