/* The shared object that ksyms exec loads before a program's C library.
 *
 * FreeBSD's driver maps its snapshot into the memory of the process that opens it. So programs
 * for FreeBSD ask KIOCGADDR for the address without an mmap() of their own. A file system of
 * Linux cannot map into another process. So this object wraps the C library's open() and
 * close(): it maps a device with the name ksyms, or $KSYMS_DEVICE, when it is opened, and
 * unmaps it when the last descriptor of it is closed. A child of vfork() shares its parent's
 * memory, but has descriptors of its own: what it opens and closes changes nothing here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KIOCGSIZE _IOR('l', 1, size_t)
#define OPENS 64

/* The mappings; a free entry has the address NULL. */
static struct { void *address; size_t size; dev_t device; ino_t inode; } opens[OPENS];
/* The process whose memory this is; getpid() differs in a child of vfork(). */
static pid_t self;

static void own(void)
{
    self = getpid();
}

__attribute__((constructor)) static void begin(void)
{
    own();
    pthread_atfork(NULL, NULL, own); /* vfork() does not call it */
}

static int is_device(const char *path)
{
    const char *device = getenv("KSYMS_DEVICE"), *name = strrchr(path, '/');
    return (device && !strcmp(path, device)) || !strcmp(name ? name + 1 : path, "ksyms");
}

/* Map fd if it is an open of the device. Returns fd, and leaves errno as it is. If all entries
 * are taken, the device is not mapped. */
static int mapped(int fd, const char *path)
{
    int before = errno, n = 0;
    size_t size;
    struct stat st;
    void *address = MAP_FAILED;
    if (fd >= 0 && is_device(path) && getpid() == self && !ioctl(fd, KIOCGSIZE, &size) &&
        size && !fstat(fd, &st))
        address = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (address != MAP_FAILED) {
        while (n < OPENS && !__sync_bool_compare_and_swap(&opens[n].address, NULL, address))
            n++;
        if (n == OPENS)
            munmap(address, size);
        else
            opens[n].size = size, opens[n].device = st.st_dev, opens[n].inode = st.st_ino;
    }
    errno = before;
    return fd;
}

/* Returns 1 if a descriptor other than fd is of the same file, or if that cannot be found out.
 * A signal handler may close a file, so nothing is allocated here. */
static int is_open_elsewhere(int fd, const struct stat *file)
{
    /* struct linux_dirent64: inode, offset, length, type, name */
    enum { LENGTH = 16, NAME = 19 };
    _Alignas(uint64_t) char entries[1024];
    int all = syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY);
    int found = all < 0;
    long got;
    while (!found && (got = syscall(SYS_getdents64, all, entries, sizeof entries)) > 0)
        for (char *at = entries; at < entries + got; at += *(uint16_t *)(at + LENGTH)) {
            struct stat st;
            int other = atoi(at + NAME);
            if (at[NAME] != '.' && other != fd && !fstat(other, &st))
                found |= st.st_dev == file->st_dev && st.st_ino == file->st_ino;
        }
    syscall(SYS_close, all);
    return found;
}

/* Unmap the device if fd, which is about to be closed, is its last descriptor. */
static void unmapped(int fd)
{
    int before = errno, left = 0;
    struct stat st;
    for (int n = 0; n < OPENS; n++)
        left |= opens[n].address != NULL;
    if (left && getpid() == self && !fstat(fd, &st) && !is_open_elsewhere(fd, &st))
        for (int n = 0; n < OPENS; n++)
            if (opens[n].device == st.st_dev && opens[n].inode == st.st_ino) {
                void *address = __sync_lock_test_and_set(&opens[n].address, NULL);
                if (address)
                    munmap(address, opens[n].size);
            }
    errno = before;
}

/* The third argument of open(), which is there only if a file may be made. */
static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define WRAP_OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        static int (*next)(const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = mode_of(flags, rest); \
        va_end(rest); \
        if (!next) \
            next = dlsym(RTLD_NEXT, #name); \
        return mapped(next(path, flags, mode), path); \
    }

#define WRAP_OPENAT(name) \
    int name(int directory, const char *path, int flags, ...) \
    { \
        static int (*next)(int, const char *, int, ...); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = mode_of(flags, rest); \
        va_end(rest); \
        if (!next) \
            next = dlsym(RTLD_NEXT, #name); \
        return mapped(next(directory, path, flags, mode), path); \
    }

/* The functions that -D_FORTIFY_SOURCE calls instead, without a mode. */
#define WRAP_OPEN_2(name) \
    int name(const char *path, int flags) \
    { \
        static int (*next)(const char *, int); \
        if (!next) \
            next = dlsym(RTLD_NEXT, #name); \
        return mapped(next(path, flags), path); \
    }

WRAP_OPEN(open)
WRAP_OPEN(open64)
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)
WRAP_OPEN_2(__open_2)
WRAP_OPEN_2(__open64_2)

int close(int fd)
{
    static int (*next)(int);
    if (!next)
        next = dlsym(RTLD_NEXT, "close");
    unmapped(fd);
    return next(fd);
}
