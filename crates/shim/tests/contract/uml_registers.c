/*
 * Lets user-mode Linux 6.1 run on processors whose extended register state is larger than its buffer (AMX: 11 kB).
 *
 * It writes a process's registers with PTRACE_SETREGSET from 2.7 kB, and the kernel takes nothing but the whole state.
 * This library, loaded before libc, completes such a write with what the process has beyond that.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define STATE_BYTES 16384
/* A timer may interrupt a write by another one; stacks there are too small for a buffer. */
#define NESTED_MAX 8

static char states[NESTED_MAX][STATE_BYTES];
static int nested;

long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *addr = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
        /* The system call stores what the function returns. */
        long word;
        return syscall(SYS_ptrace, request, pid, addr, &word) < 0 ? -1 : word;
    }
    if (request != PTRACE_SETREGSET || (long)addr != NT_X86_XSTATE || nested == NESTED_MAX)
        return syscall(SYS_ptrace, request, pid, addr, data);

    struct iovec *given = data;
    struct iovec whole = { .iov_base = states[nested++], .iov_len = STATE_BYTES };
    long result = syscall(SYS_ptrace, PTRACE_GETREGSET, pid, addr, &whole);
    if (result == 0) {
        size_t bytes = given->iov_len < whole.iov_len ? given->iov_len : whole.iov_len;
        memcpy(whole.iov_base, given->iov_base, bytes);
        result = syscall(SYS_ptrace, PTRACE_SETREGSET, pid, addr, &whole);
    }
    nested--;
    return result;
}
