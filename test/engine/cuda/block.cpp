// The turns that a block's threads take.
#include "block.hpp"
#include <cstdlib>
#include <sys/mman.h>

// Leaves one stack for another: what a call must keep goes onto the stack, and the stack's place to `from`. A few
// nanoseconds, where ucontext asks the system and setjmp scrambles addresses.
extern "C" void switchStack(void** from, void* to);
#if defined(__x86_64__)
constexpr size_t keptWords = 6;
asm(".text\n.globl switchStack\nswitchStack:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");
#elif defined(__aarch64__)
constexpr size_t keptWords = 20;
asm(".text\n.globl switchStack\nswitchStack:\n"
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, [sp, #48]\n"
    "stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
    "stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, [sp, #144]\n"
    "mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
    "ldp x19, x20, [sp]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, [sp, #48]\n"
    "ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
    "ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160\nret\n");
#else
#error "switchStack is written for x86-64 and arm64"
#endif

namespace emulated {

constexpr size_t stackBytes = 256 * 1024;

Block block;

std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> all;
  return all;
}

static Thread& next() {
  unsigned i = block.current->number;
  do i = (i + block.threads + block.step) % block.threads;
  while (!block.thread[i].live);
  return block.thread[i];
}

// Leaves `from` (a thread, or whoever runs the block) for a thread.
static void turnTo(void** from, Thread& thread) {
  block.current = &thread;
  switchStack(from, thread.here);
}

void fail(const char* what) {
  block.error = what;
  void* abandoned;
  switchStack(&abandoned, block.caller);
}

void wait(Barrier& barrier, unsigned expected) {
  const unsigned round = barrier.round;
  if (++barrier.arrived == expected) {
    barrier.arrived = 0;
    barrier.round++;
    block.waits = 0;
    return;
  }
  Thread& me = *block.current;
  while (barrier.round == round) {
    // Everybody had a turn, and nobody came further.
    if (block.waits++ > 2 * block.live) fail("threads wait at a barrier that others never reach");
    Thread& other = next();
    if (&other != &me) turnTo(&me.here, other);
  }
}

// What a fiber does: its thread of one block after the other.
static void live() {
  Thread& me = *block.current;
  for (;;) {
    block.kernel->run(block.argument);
    me.live = false;
    block.waits = 0;
    if (--block.live == 0) switchStack(&me.here, block.caller);
    else turnTo(&me.here, next());
  }
}

// Makes a stack that begins to live when it is switched to.
static void prepare(Thread& thread, unsigned number) {
  if (!thread.stack) {
    void* memory = mmap(nullptr, stackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    thread.stack = static_cast<char*>(memory);
  }
  thread.number = number;
  thread.index = {number, 0, 0};
  void** top = reinterpret_cast<void**>(thread.stack + stackBytes) - 32;
  std::memset(top, 0, 32 * sizeof(void*));
#if defined(__x86_64__)
  top[keptWords] = reinterpret_cast<void*>(live);
#else
  top[11] = reinterpret_cast<void*>(live);
#endif
  thread.here = top;
}

static bool runBlock(uint3 index, size_t sharedBytes) {
  block.index = index;
  const Kernel& kernel = *block.kernel;
  if (kernel.sharedBegin) std::memset(kernel.sharedBegin, 0xff, kernel.sharedEnd - kernel.sharedBegin);
  if (sharedBytes > 0) std::memset(block.launchedShared, 0xff, sharedBytes);
  block.barrier = {};
  block.waits = 0;
  block.live = block.threads;
  for (unsigned t = 0; t < block.threads; t++) {
    block.thread[t].live = true;
    block.thread[t].shuffles = 0;
    block.thread[t].copies.forget();
    Warp& warp = block.warps[t / 32];
    warp.barrier = {};
    warp.size = t % 32 + 1;
  }
  turnTo(&block.caller, block.thread[block.step > 0 ? 0 : block.threads - 1]);
  return block.error.empty();
}

// Shared memory that ends where memory that nobody may touch begins.
static uint4* sharedMemory(size_t bytes) {
  constexpr size_t page = 4096, room = 256 * 1024;
  static char* const map = [] {
    void* memory = mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    mprotect(static_cast<char*>(memory) + room, page, PROT_NONE);
    return static_cast<char*>(memory);
  }();
  return reinterpret_cast<uint4*>(map + room - bytes);
}

std::string run(const Kernel& kernel, const void* argument, uint3 grid, size_t sharedBytes) {
  static unsigned begun = 0;
  for (; begun < kernel.threads; begun++) prepare(block.thread[begun], begun);
  block.kernel = &kernel;
  block.argument = argument;
  block.grid = grid;
  block.launchedShared = sharedMemory(sharedBytes);
  block.threads = kernel.threads;
  block.step = -block.step;
  block.error.clear();
  for (unsigned z = 0; z < grid.z; z++) {
    for (unsigned y = 0; y < grid.y; y++) {
      for (unsigned x = 0; x < grid.x; x++) {
        if (runBlock({x, y, z}, sharedBytes)) continue;
        // The fibers stand somewhere in the kernel: they begin anew.
        begun = 0;
        return block.error;
      }
    }
  }
  return "";
}

}  // namespace emulated
