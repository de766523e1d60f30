// Included before every source on Linux x86-64 with glibc: the library built on a new system runs on old ones
// (manylinux_2_28: glibc 2.28, libstdc++ of GCC 8). What these headers would bind to newer symbols is bound to the older,
// equal ones.
#pragma once
#include <new>

#if defined(__linux__) && defined(__x86_64__) && defined(__GLIBC__)
__asm__(".symver exp,exp@GLIBC_2.2.5");  // newer ones do not set errno
__asm__(".symver log,log@GLIBC_2.2.5");
#if defined(__GLIBCXX__)
__asm__(
    ".symver _ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE,"
    "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE@GLIBCXX_3.4.11");

namespace std {
[[noreturn]] __attribute__((visibility("hidden"))) inline void __throw_bad_array_new_length() {
    throw bad_array_new_length();  // of containers; GCC 11 moved it into its library
}
}  // namespace std
#endif
#endif
