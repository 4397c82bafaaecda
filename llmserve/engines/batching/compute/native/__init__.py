"""A decoder step in C++ for processors with bfloat16 instructions; `build_native` makes one."""
