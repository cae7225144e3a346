/* no_uring.c: runs a program as a container's seccomp profile without io_uring would: `no_uring PROGRAM [ARGUMENT...]`.
 *
 * The filter lets everything pass but io_uring_setup, io_uring_enter and io_uring_register, which get EPERM, as with Docker's default profile. Without
 * arguments it tests itself: two cases, printed for the test runner. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The numbers of x86-64 and of everything younger; the three are neighbours. */
#define FIRST SYS_io_uring_setup
#define LAST  SYS_io_uring_register

static int refuse_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FIRST, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, LAST, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = sizeof code / sizeof code[0], .filter = code };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int self_test(void)
{
    int refused = syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == EPERM;
    int others = getpid() > 0 && access("/", F_OK) == 0;

    printf("%d passed, %d failed\n", refused + others, 2 - refused - others);
    return refused && others ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (refuse_io_uring() < 0) {
        fprintf(stderr, "seccomp filters are not allowed here: %s\n", strerror(errno));
        return 77;
    }
    if (argc < 2)
        return self_test();
    execv(argv[1], argv + 1);
    fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
    return 127;
}
