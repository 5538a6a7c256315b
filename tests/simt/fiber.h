// Switching between stacks, and telling the sanitizers about it.
#pragma once

#include <cstddef>

namespace simt {

// A stack of its own; main_stack() stands for the one that the process gave the OS thread.
struct Stack {
    unsigned char* base = nullptr;
    size_t size = 0;
    void* saved = nullptr;  // where its owner stopped
};

Stack make_stack();
// Prepares a stack to begin with entry(), which must never return.
void begin_on(Stack& stack, void (*entry)());
// Stops here, to go on when someone switches back; `abandon` tells that nobody will.
void switch_stack(Stack& from, Stack& to, bool abandon);
// The first words of an entry(): `main` is where the run was started.
void entered(Stack& main);

// AddressSanitizer's view: memory that nobody may touch; nothing without it.
bool asan_present();
void poison(const void* p, size_t bytes);
void unpoison(const void* p, size_t bytes);

// ThreadSanitizer's view; nothing without it.
bool tsan_present();
void* tsan_current();
void* tsan_create();
void tsan_destroy(void* fiber);
void tsan_switch(void* fiber);
void tsan_acquire(void* tag);
void tsan_release(void* tag);

}  // namespace simt
