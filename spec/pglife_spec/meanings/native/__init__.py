"""Generated native code: LLVM IR as text, and what compiles and keeps it."""
