/* Opens a file as a worker of io_uring's does, after this process gave its rights away.
 *
 * A worker thread that was made by root keeps what /proc shows of root, and opens with the
 * rights of whoever asked. Prints what the open gave: 0, or an errno's name. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ring;
static char *rings;
static struct io_uring_params setup;
static struct io_uring_sqe *entries;

static int async_open(const char *path)
{
    unsigned *tail = (unsigned *)(rings + setup.sq_off.tail);
    unsigned *mask = (unsigned *)(rings + setup.sq_off.ring_mask);
    unsigned *array = (unsigned *)(rings + setup.sq_off.array);
    unsigned *head = (unsigned *)(rings + setup.cq_off.head);
    struct io_uring_cqe *done = (struct io_uring_cqe *)(rings + setup.cq_off.cqes);
    unsigned place = *tail & *mask;
    memset(&entries[place], 0, sizeof entries[place]);
    entries[place].opcode = IORING_OP_OPENAT;
    entries[place].fd = AT_FDCWD;
    entries[place].addr = (unsigned long)path;
    entries[place].open_flags = O_RDONLY;
    entries[place].flags = IOSQE_ASYNC;
    array[place] = place;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    int result = done[*head & *(unsigned *)(rings + setup.cq_off.ring_mask)].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return result;
}

int main(int argc, char **argv)
{
    ring = syscall(SYS_io_uring_setup, 8, &setup);
    if (ring < 0)
        return 1;
    size_t size = setup.cq_off.cqes + setup.cq_entries * sizeof(struct io_uring_cqe);
    size_t other = setup.sq_off.array + setup.sq_entries * 4;
    rings = mmap(NULL, size > other ? size : other, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0);
    entries = mmap(NULL, setup.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE,
                   MAP_SHARED, ring, IORING_OFF_SQES);
    close(async_open("/dev/null")); /* the worker is made, by root */
    if (argc > 2 && (setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
                     setresuid(65534, 65534, 65534)))
        return 1;
    int result = async_open(argv[1]);
    puts(result < 0 ? strerrorname_np(-result) : "0");
    return 0;
}
