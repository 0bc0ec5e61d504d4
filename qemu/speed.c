/* What scripts/bench speed measures with, in a guest, without a libc:
 *   speed floor FLAGS LIST   opens, loads by finit_module with FLAGS, and closes each file of LIST, a path to a line
 *   speed time COMMAND...    runs a command and prints how long it took, in ns of monotonic time
 *   speed count COMMAND...   runs a command and prints how many system calls its process made
 * The first is the floor: no loader can do with less. */

#if defined(__arm__)
enum { EXIT = 248, READ = 3, WRITE = 4, CLOSE = 6, EXECVE = 11, PTRACE = 26, WAIT4 = 114, CLONE = 120, OPENAT = 322,
       FINIT_MODULE = 379, CLOCK_GETTIME = 403 };
static long sys(long n, long a, long b, long c, long d)
{
	register long r7 __asm__("r7") = n, r0 __asm__("r0") = a, r1 __asm__("r1") = b, r2 __asm__("r2") = c;
	register long r3 __asm__("r3") = d, r4 __asm__("r4") = 0;
	__asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4) : "memory");
	return r0;
}
__asm__(".globl _start\n_start: mov r0, sp\n bl start\n");
#else
enum { EXIT = 94, READ = 63, WRITE = 64, CLOSE = 57, EXECVE = 221, PTRACE = 117, WAIT4 = 260, CLONE = 220, OPENAT = 56,
       FINIT_MODULE = 273, CLOCK_GETTIME = 113 };
#if defined(__aarch64__)
static long sys(long n, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d, x4 __asm__("x4") = 0;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}
__asm__(".globl _start\n_start: mov x0, sp\n bl start\n");
#elif defined(__riscv)
static long sys(long n, long a, long b, long c, long d)
{
	register long a7 __asm__("a7") = n, a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c;
	register long a3 __asm__("a3") = d, a4 __asm__("a4") = 0;
	__asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4) : "memory");
	return a0;
}
__asm__(".globl _start\n_start: mv a0, sp\n call start\n");
#else
#error "an architecture that scripts/bench speed does not know"
#endif
#endif

enum { SIGCHLD = 17, TRACEME = 0, NEXT_SYSCALL = 24, CLOEXEC = 02000000, AT_FDCWD = -100, MONOTONIC = 1 };

static char list[1 << 16];

static void say(const char *text)
{
	long length = 0;
	while (text[length])
		length++;
	sys(WRITE, 1, (long)text, length, 0);
}

/* Without a division of 64 bits, which would take a library on 32. */
static void say_number(const char *what, unsigned long long value)
{
	static const unsigned long long powers[] = {
		1000000000000000ull, 100000000000000ull, 10000000000000ull, 1000000000000ull, 100000000000ull, 10000000000ull,
		1000000000ull, 100000000ull, 10000000ull, 1000000ull, 100000ull, 10000ull, 1000ull, 100ull, 10ull, 1ull };
	char text[18], *to = text;
	for (int i = 0; i < 16; i++) {
		char digit = '0';
		for (; value >= powers[i]; value -= powers[i])
			digit++;
		if (digit != '0' || to != text || i == 15)
			*to++ = digit;
	}
	*to++ = '\n';
	*to = 0;
	say(what);
	say(text);
}

static unsigned long long now(void)
{
	long long time[2];
	sys(CLOCK_GETTIME, MONOTONIC, (long)time, 0, 0);
	unsigned long long ns = time[1];
	for (int bit = 0; bit < 30; bit++)
		if (1000000000ull >> bit & 1)
			ns += (unsigned long long)time[0] << bit;
	return ns;
}

static int floor_of(const char *flags, const char *file)
{
	long fd = sys(OPENAT, AT_FDCWD, (long)file, CLOEXEC, 0), length = 0, n, failed = 0;
	while ((n = sys(READ, fd, (long)list + length, sizeof list - 1 - length, 0)) > 0)
		length += n;
	sys(CLOSE, fd, 0, 0, 0);
	for (char *path = list; path < list + length;) {
		char *end = path;
		while (*end != '\n')
			end++;
		*end = 0;
		fd = sys(OPENAT, AT_FDCWD, (long)path, CLOEXEC, 0);
		if (fd < 0 || sys(FINIT_MODULE, fd, (long)"", *flags - '0', 0) < 0)
			failed++;
		sys(CLOSE, fd, 0, 0, 0);
		path = end + 1;
	}
	return failed;
}

static long begin(char **command, char **environment, int is_traced)
{
	long pid = sys(CLONE, SIGCHLD, 0, 0, 0);
	if (pid)
		return pid;
	if (is_traced)
		sys(PTRACE, TRACEME, 0, 0, 0);
	sys(EXECVE, (long)command[0], (long)command, (long)environment, 0);
	sys(EXIT, 127, 0, 0, 0);
	return 0;
}

static void time_of(char **command, char **environment)
{
	int status;
	unsigned long long start = now();
	long pid = begin(command, environment, 0);
	sys(WAIT4, pid, (long)&status, 0, 0);
	unsigned long long end = now();
	say_number("SPEED status ", status);
	say_number("SPEED ns ", end - start);
}

static void count_of(char **command, char **environment)
{
	int status;
	unsigned long long stops = 0;
	long pid = begin(command, environment, 1);
	/* It stops once when it becomes the command, then where each call begins and ends; exit_group does not return. */
	while (sys(WAIT4, pid, (long)&status, 0, 0) == pid && (status & 0x7f) == 0x7f) {
		stops++;
		sys(PTRACE, NEXT_SYSCALL, pid, 0, 0);
	}
	say_number("SPEED status ", status);
	say_number("SPEED calls ", stops >> 1);
}

__attribute__((used, noreturn)) void start(long *stack)
{
	long count = stack[0];
	char **words = (char **)(stack + 1), **environment = words + count + 1;
	int code = 0;
	if (words[1][0] == 'f')
		code = floor_of(words[2], words[3]);
	else if (words[1][0] == 't')
		time_of(words + 2, environment);
	else
		count_of(words + 2, environment);
	for (;;)
		sys(EXIT, code, 0, 0, 0);
}
