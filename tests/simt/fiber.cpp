#include "tests/simt/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

// Weak: present only where the program is linked with that sanitizer.
extern "C" {
__attribute__((weak)) void __sanitizer_start_switch_fiber(void**, const void*, size_t);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
__attribute__((weak)) void __asan_poison_memory_region(const volatile void*, size_t);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void*, size_t);
__attribute__((weak)) void* __tsan_get_current_fiber();
__attribute__((weak)) void* __tsan_create_fiber(unsigned);
__attribute__((weak)) void __tsan_destroy_fiber(void*);
__attribute__((weak)) void __tsan_switch_to_fiber(void*, unsigned);
__attribute__((weak)) void __tsan_acquire(void*);
__attribute__((weak)) void __tsan_release(void*);
}

namespace simt {

namespace {

constexpr size_t kStackBytes = 64 * 1024;

}  // namespace

bool asan_present() {
    return __asan_poison_memory_region != nullptr;
}
void poison(const void* p, size_t bytes) {
    if (asan_present()) __asan_poison_memory_region(p, bytes);
}
void unpoison(const void* p, size_t bytes) {
    if (asan_present()) __asan_unpoison_memory_region(p, bytes);
}

#if defined(__x86_64__)

// The System V ABI's callee-saved registers are pushed on the old stack and popped from the new:
// some 3 ns, where swapcontext() makes two system calls for the signal mask.
extern "C" void simt_switch_stack(void** save, void* load);
asm(R"(
.text
.globl simt_switch_stack
.type simt_switch_stack,@function
simt_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size simt_switch_stack,.-simt_switch_stack
)");

void begin_on(Stack& stack, void (*entry)()) {
    unpoison(stack.base, stack.size);
    auto* top = reinterpret_cast<void**>(stack.base + stack.size);
    *--top = nullptr;  // entry's return address, and 16-byte alignment at its call
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    stack.saved = top;
}

static void switch_registers(Stack& from, Stack& to) {
    simt_switch_stack(&from.saved, to.saved);
}

#else

static ucontext_t* context_of(Stack& stack) {
    if (!stack.saved) stack.saved = new ucontext_t;
    return static_cast<ucontext_t*>(stack.saved);
}

void begin_on(Stack& stack, void (*entry)()) {
    unpoison(stack.base, stack.size);
    ucontext_t* context = context_of(stack);
    getcontext(context);
    context->uc_stack.ss_sp = stack.base;
    context->uc_stack.ss_size = stack.size;
    context->uc_link = nullptr;
    makecontext(context, entry, 0);
}

static void switch_registers(Stack& from, Stack& to) {
    swapcontext(context_of(from), context_of(to));
}

#endif

Stack make_stack() {
    void* p = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    return {static_cast<unsigned char*>(p), kStackBytes, nullptr};
}

void switch_stack(Stack& from, Stack& to, bool abandon) {
    if (!asan_present()) return switch_registers(from, to);
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(abandon ? nullptr : &fake, to.base, to.size);
    switch_registers(from, to);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}

void entered(Stack& main) {
    if (!asan_present()) return;
    const void* base = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(nullptr, &base, &size);
    if (main.base) return;  // this fiber was begun by another one
    main.base = static_cast<unsigned char*>(const_cast<void*>(base));
    main.size = size;
}

bool tsan_present() {
    return __tsan_create_fiber != nullptr;
}
void* tsan_current() {
    return tsan_present() ? __tsan_get_current_fiber() : nullptr;
}
void* tsan_create() {
    return tsan_present() ? __tsan_create_fiber(0) : nullptr;
}
void tsan_destroy(void* fiber) {
    if (tsan_present()) __tsan_destroy_fiber(fiber);
}
void tsan_switch(void* fiber) {
    constexpr unsigned kNoSync = 1;  // a switch orders nothing by itself
    if (tsan_present()) __tsan_switch_to_fiber(fiber, kNoSync);
}
void tsan_acquire(void* tag) {
    if (tsan_present()) __tsan_acquire(tag);
}
void tsan_release(void* tag) {
    if (tsan_present()) __tsan_release(tag);
}

}  // namespace simt
