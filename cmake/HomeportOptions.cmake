# Compiler settings shared by every target. Warnings are errors; ISA-specific code opens its own target regions
# inside the kernel sources (see src/kernels), so no file is ever compiled with -m flags.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

option(HP_FUZZ "Build the libFuzzer targets (needs clang++)" OFF)
set(HP_SANITIZE "" CACHE STRING "Sanitizers for every target, for example address,undefined or thread")

add_library(hp_flags INTERFACE)
target_compile_options(hp_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
                       -Wnon-virtual-dtor -Woverloaded-virtual -Wno-missing-field-initializers -Werror
                       -fno-math-errno -ffp-contract=off)
target_include_directories(hp_flags INTERFACE "${PROJECT_SOURCE_DIR}/src")
if(HP_SANITIZE)
  target_compile_options(hp_flags INTERFACE -fsanitize=${HP_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(hp_flags INTERFACE -fsanitize=${HP_SANITIZE})
  if(HP_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(hp_flags INTERFACE -Wno-tsan)  # Asio has a fence, which TSan does not see
  endif()
endif()
if(HP_FUZZ)
  target_compile_options(hp_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE_PROGRAM}")
endif()
find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM)
  target_link_options(hp_flags INTERFACE -fuse-ld=mold)
endif()
