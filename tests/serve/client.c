/* A program that knows nothing of ksyms: it makes the system calls that its arguments name,
 * one after the other, and prints a line for each: what it gave, or the errno's name. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define KIOCGSIZE _IOR('l', 1, size_t)
#define KIOCGADDR _IOR('l', 2, void *)
#define KIOCGSIZE32 _IOR('l', 1, uint32_t)
#define KIOCGADDR32 _IOR('l', 2, uint32_t)
struct ksyms_gvalue { const char *kv_name; uint64_t kv_value; };
struct ksyms_gsymbol { const char *kg_name; union { Elf64_Sym ku_sym; } _un; };
#define KIOCGVALUE _IOWR('l', 4, struct ksyms_gvalue)
#define KIOCGSYMBOL _IOWR('l', 5, struct ksyms_gsymbol)

static int fds[64], count;
static char *map;
static size_t length;
static char buffer[1 << 20];

static void told(long long result)
{
    if (result < 0)
        printf("%s\n", strerrorname_np(errno));
    else
        printf("%lld\n", result);
    fflush(stdout);
}

static unsigned long long sum(const char *data, size_t size)
{
    unsigned long long hash = 1469598103934665603ULL;
    size_t n = 0;
    for (; n + 8 <= size; n += 8) {
        uint64_t word;
        memcpy(&word, data + n, 8);
        hash = (hash ^ word) * 1099511628211ULL;
    }
    for (; n < size; n++)
        hash = (hash ^ (unsigned char)data[n]) * 1099511628211ULL;
    return hash >> 1;
}

static void *open_in_thread(void *path)
{
    told(open(path, O_RDONLY));
    return NULL;
}

/* A page that never comes: whoever reads it waits for this process to provide it. */
static char *never;

static void *ask_with_a_page_that_never_comes(void *path)
{
    struct ksyms_gvalue value = {never, 0};
    ioctl(open(path, O_RDONLY), KIOCGVALUE, &value);
    return NULL;
}

/* That many threads with an open each; how many of their lookups wait for the page. */
static long long stuck(long number, const char *path)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffd_msg message;
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    struct pollfd ready = {fd, POLLIN, 0};
    long long waiting = 0;
    pthread_t thread;
    never = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct uffdio_register page = {
        .range = {(uintptr_t)never, 4096}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &page))
        return -1;
    for (long n = 0; n < number; n++)
        pthread_create(&thread, NULL, ask_with_a_page_that_never_comes, (void *)path);
    while (waiting < number && poll(&ready, 1, 2000) > 0)
        waiting += read(fd, &message, sizeof message) == sizeof message;
    return waiting;
}

/* The answer to a lookup by one of the opens, of the name at a page of its own: an errno. */
static void *ask(void *number)
{
    int at = (int)(uintptr_t)number;
    struct ksyms_gvalue value = {never + 4096 * at, 0};
    return (void *)(uintptr_t)(ioctl(fds[at], KIOCGVALUE, &value) ? errno : 0);
}

/* That many of the opens ask at once; what each of them was answered. */
static void ask_all(long number)
{
    pthread_t threads[64];
    void *answer;
    for (long n = 0; n < number; n++)
        pthread_create(threads + n, NULL, ask, (void *)(uintptr_t)n);
    for (long n = 0; n < number; n++) {
        pthread_join(threads[n], &answer);
        errno = (uintptr_t)answer;
        told(errno ? -1 : 0);
    }
}

/* The sum of all that can be read from now on; which is written to a file too, if named. */
static long long read_all(int fd, const char *copy)
{
    size_t size = 0, room = 1 << 20;
    char *data = malloc(room);
    ssize_t got;
    while ((got = read(fd, data + size, room - size)) > 0)
        if ((size += got) == room)
            data = realloc(data, room *= 2);
    long long hash = got < 0 ? -1 : (long long)sum(data, size);
    if (copy) {
        FILE *file = fopen(copy, "w");
        if (!file || fwrite(data, 1, size, file) != size || fclose(file))
            hash = -1;
    }
    free(data);
    return hash;
}

/* A descriptor that somebody sends over the socket at stdin. */
static int take(void)
{
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control;
    char byte;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(0, &message, 0) > 0 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

/* A symbol's address in /proc/kallsyms, halved: 0 where it is hidden. */
static long long kallsyms(const char *name)
{
    FILE *file = fopen("/proc/kallsyms", "r");
    unsigned long long address;
    char letter, found[1024];
    long long result = -1;
    const char *line = "%llx %c %1023s%*[^\n]";
    while (file && result < 0 && fscanf(file, line, &address, &letter, found) == 3)
        if (!strcmp(found, name))
            result = address >> 1;
    if (file)
        fclose(file);
    return result;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* What benchmarks/serve.py asks; seconds for one of what is counted. */
static double timed(const char *what, long number, const char *path)
{
    double begun = now();
    if (!strcmp(what, "time-open")) { /* opens and closes */
        for (long n = 0; n < number; n++)
            close(open(path, O_RDONLY));
        return (now() - begun) / number;
    }
    if (!strcmp(what, "time-only-open")) { /* opens, not counting their closes */
        double total = 0;
        for (long n = 0; n < number; n++) {
            begun = now();
            int fd = open(path, O_RDONLY);
            total += now() - begun;
            close(fd);
        }
        return total / number;
    }
    if (!strcmp(what, "time-openers")) { /* processes that open, read all and close at once */
        for (long n = 0; n < number; n++)
            if (!fork()) {
                int fd = open(path, O_RDONLY);
                while (read(fd, buffer, sizeof buffer) > 0)
                    ;
                _exit(close(fd));
            }
        while (wait(NULL) > 0)
            ;
        return now() - begun;
    }
    int fd = open(path, O_RDONLY);
    struct stat st;
    fstat(fd, &st);
    if (!strcmp(what, "time-read")) { /* the whole, 20 times, in blocks of that many bytes */
        begun = now();
        for (int round = 0; round < 20; round++)
            for (off_t at = 0; at < st.st_size; at += number)
                if (pread(fd, buffer, number, at) <= 0)
                    return -1;
        return (now() - begun) / 20;
    }
    begun = now();
    unsigned sum = 0;
    for (int round = 0; round < 20; round++) { /* time-map: mapped, and each page touched */
        unsigned char *at = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        for (off_t n = 0; n < st.st_size; n += 4096)
            sum += at[n];
        munmap(at, st.st_size);
    }
    return (now() - begun) / 20 + (sum == 1) * 1e-12;
}

static void act(const char *what, const char *with)
{
    int fd = count ? fds[count - 1] : -1;
    long number = strtol(with, NULL, 0);
    if (!strcmp(what, "open") || !strcmp(what, "openw") || !strcmp(what, "openrw")) {
        int flags = what[4] == 'w' ? O_WRONLY : what[4] == 'r' ? O_RDWR : O_RDONLY;
        int got = open(with, flags);
        told(got < 0 ? -1 : 0);
        if (got >= 0)
            fds[count++] = got;
    } else if (!strcmp(what, "opens")) { /* number,path: how many could be opened at once */
        struct rlimit files = {number + 100, number + 100};
        setrlimit(RLIMIT_NOFILE, &files);
        long got = 0;
        while (got < number && open(strchr(with, ',') + 1, O_RDONLY) >= 0)
            got++;
        told(got);
    } else if (!strcmp(what, "reopen")) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int got = open(path, O_RDONLY);
        told(got < 0 ? -1 : 0);
        if (got >= 0)
            fds[count++] = got;
    } else if (!strcmp(what, "threadopen")) {
        pthread_t thread;
        pthread_create(&thread, NULL, open_in_thread, (void *)with);
        pthread_join(thread, NULL);
    } else if (!strcmp(what, "close")) {
        told(close(fds[--count]));
    } else if (!strcmp(what, "fstat")) {
        struct stat st;
        told(fstat(fd, &st) ? -1 : (long long)st.st_size);
    } else if (!strcmp(what, "mode")) {
        struct stat st;
        told(stat(with, &st) ? -1 : (long long)(st.st_mode & 07777));
    } else if (!strcmp(what, "stat")) {
        struct stat st;
        told(stat(with, &st) ? -1 : (long long)st.st_size);
    } else if (!strcmp(what, "read")) {
        told(read(fd, buffer, number));
    } else if (!strcmp(what, "pread")) {
        told(pread(fd, buffer, 16, number));
    } else if (!strcmp(what, "lseek")) {
        told(lseek(fd, number, SEEK_SET));
    } else if (!strcmp(what, "sum")) {
        told(read_all(fd, NULL));
    } else if (!strcmp(what, "copy")) {
        told(read_all(fd, with));
    } else if (!strcmp(what, "mapsum")) {
        told(map ? (long long)sum(map, length) : -1);
    } else if (!strcmp(what, "write")) {
        told(write(fd, "x", 1));
    } else if (!strcmp(what, "size")) {
        size_t size;
        told(ioctl(fd, KIOCGSIZE, &size) ? -1 : (long long)size);
    } else if (!strcmp(what, "size32")) {
        uint32_t size;
        told(ioctl(fd, KIOCGSIZE32, &size) ? -1 : (long long)size);
    } else if (!strcmp(what, "addr")) {
        char *address = NULL;
        if (ioctl(fd, KIOCGADDR, &address))
            told(-1);
        else /* 1: it is where we have it mapped; else its first bytes say */
            told(map ? address == map : !memcmp(address, "\177ELF", 4) ? 2 : 0);
    } else if (!strcmp(what, "addr32")) {
        uint32_t address;
        told(ioctl(fd, KIOCGADDR32, &address) ? -1 : (long long)address);
    } else if (!strcmp(what, "value")) {
        struct ksyms_gvalue value = {with, 0};
        told(ioctl(fd, KIOCGVALUE, &value) ? -1 : (long long)(value.kv_value >> 1));
    } else if (!strcmp(what, "symbol")) {
        struct ksyms_gsymbol symbol = {with, {{0}}};
        told(ioctl(fd, KIOCGSYMBOL, &symbol) ? -1 : (long long)symbol._un.ku_sym.st_size);
    } else if (!strcmp(what, "badname")) {
        struct ksyms_gvalue value = {(void *)16, 0};
        told(ioctl(fd, KIOCGVALUE, &value));
    } else if (!strcmp(what, "stuck")) {
        told(stuck(number, strchr(with, ',') + 1));
    } else if (!strcmp(what, "pages")) { /* of a file; names are looked for there then */
        never = mmap(NULL, 64 * 4096, PROT_READ, MAP_PRIVATE, open(with, O_RDONLY), 0);
        told(never == MAP_FAILED ? -1 : madvise(never, 64 * 4096, MADV_RANDOM));
    } else if (!strcmp(what, "ask")) {
        ask_all(number);
    } else if (!strcmp(what, "ioctl")) {
        told(ioctl(fd, number, buffer));
    } else if (!strcmp(what, "mmappart")) {
        told(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
    } else if (!strncmp(what, "mmap", 4)) {
        struct stat st;
        fstat(fd, &st);
        int write = strchr(what, 'w') ? PROT_WRITE : 0;
        int kind = strchr(what, 'x') ? MAP_PRIVATE : MAP_SHARED;
        char *got = mmap(NULL, st.st_size, PROT_READ | write, kind, fd, 0);
        told(got == MAP_FAILED ? -1 : 0);
        if (got != MAP_FAILED)
            map = got, length = st.st_size;
    } else if (!strcmp(what, "munmap")) {
        told(munmap(map, length));
        map = NULL;
    } else if (!strcmp(what, "dup")) {
        told((fds[count++] = dup(fd)) < 0 ? -1 : 0);
    } else if (!strcmp(what, "dupclose")) { /* of two descriptors the first is closed */
        fds[count - 1] = dup(fd);
        told(close(fd));
    } else if (!strcmp(what, "vforkclose")) { /* as a program does before it runs another */
        if (!vfork())
            _exit(close(fd));
        wait(NULL);
        told(0);
    } else if (!strcmp(what, "fork")) { /* a child that holds the descriptors for a while */
        told(0);
        if (!fork()) {
            usleep(number * 1000);
            _exit(0);
        }
    } else if (!strcmp(what, "childopen")) { /* another process, the same descriptors */
        if (!fork()) {
            told(open(with, O_RDONLY) < 0 ? -1 : 0);
            _exit(0);
        }
        wait(NULL);
    } else if (!strcmp(what, "take")) {
        told((fds[count++] = take()) < 0 ? -1 : 0);
    } else if (!strcmp(what, "nobody")) { /* from root, for good */
        told(setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
             setresuid(65534, 65534, 65534) ? -1 : 0);
    } else if (!strcmp(what, "userns")) { /* all capabilities, but in a namespace of its own */
        told(unshare(CLONE_NEWUSER));
    } else if (!strcmp(what, "kallsyms")) {
        told(kallsyms(with));
    } else if (!strcmp(what, "sleep")) {
        usleep(number * 1000);
        told(0);
    } else if (!strcmp(what, "wait")) { /* for a line on stdin */
        told(getchar() < 0 ? -1 : 0);
    } else if (!strncmp(what, "time-", 5)) {
        printf("%.9f\n", timed(what, number, strchr(with, ',') + 1));
    } else if (!strcmp(what, "use")) { /* seconds,path: open, read, map, close; how often */
        time_t end = time(NULL) + number;
        const char *path = strchr(with, ',') + 1;
        long times = 0;
        while (time(NULL) < end) {
            struct stat st;
            int got = open(path, O_RDONLY);
            if (got < 0) {
                told(-1);
                continue;
            }
            fstat(got, &st);
            char *at = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, got, 0);
            if (at == MAP_FAILED || read_all(got, NULL) != (long long)sum(at, st.st_size))
                printf("torn\n");
            if (at != MAP_FAILED)
                munmap(at, st.st_size);
            close(got);
            times++;
        }
        told(times);
    } else if (!strcmp(what, "loop")) { /* open and close, that often; how often it was busy */
        long busy = 0;
        const char *path = strchr(with, ',') + 1;
        for (long n = 0; n < number; n++) {
            int got = open(path, O_RDONLY);
            if (got < 0)
                busy++;
            else
                close(got);
        }
        told(busy);
    } else {
        printf("what is %s?\n", what);
    }
}

int main(int argc, char **argv)
{
    for (int n = 1; n < argc; n++) {
        char *what = argv[n], *with = strchr(what, '=');
        if (with)
            *with++ = 0;
        act(what, with ? with : "");
    }
    return 0;
}
