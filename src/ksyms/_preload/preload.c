/* What ksyms exec puts in front of a program's C library.
 *
 * FreeBSD's driver maps its snapshot into the memory of whoever opens it, and programs ask
 * KIOCGADDR for the address without an mmap() of their own. No file system can map into
 * another process; so this maps a device named ksyms, or $KSYMS_DEVICE, when it is opened,
 * and unmaps it when it is closed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define KIOCGSIZE _IOR('l', 1, size_t)
#define OPENS 64

static struct { int fd; void *address; size_t size; } opens[OPENS];

static int is_device(const char *path)
{
    const char *device = getenv("KSYMS_DEVICE"), *name = strrchr(path, '/');
    return (device && !strcmp(path, device)) || !strcmp(name ? name + 1 : path, "ksyms");
}

static int mapped(int fd, const char *path)
{
    int before = errno;
    size_t size;
    if (fd < 0 || !is_device(path) || ioctl(fd, KIOCGSIZE, &size) || !size)
        goto out;
    for (int n = 0; n < OPENS; n++) {
        if (opens[n].address)
            continue;
        void *address = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        if (address != MAP_FAILED)
            opens[n].fd = fd, opens[n].address = address, opens[n].size = size;
        break;
    }
out:
    errno = before;
    return fd;
}

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

/* What -D_FORTIFY_SOURCE makes of them. */
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
    for (int n = 0; n < OPENS; n++) {
        if (opens[n].address && opens[n].fd == fd) {
            munmap(opens[n].address, opens[n].size);
            opens[n].address = NULL;
        }
    }
    return next(fd);
}
