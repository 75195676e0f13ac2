"""llama.cpp as a contender, through the C interface that llama-cpp-python brings."""
import ctypes

import numpy as np

BATCH = 2048            # tokens that one call may bring
AT_ONCE = 512           # of which so many go through the layers together


def quiet(llama_cpp):
    """No messages of the library's own.  The callback must outlive every call, so the module keeps it."""
    if not hasattr(quiet, "callback"):
        quiet.callback = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(quiet.callback, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()


class Llama:
    """llama.cpp on a GGUF file.  Its keys and values are float16, as they are unless one asks for something else."""

    def __init__(self, file, threads, longest, vocab_size, lib, flash=True, at_once=AT_ONCE, mmap=True, kv=1):
        quiet(lib)
        self.lib, self.vocab_size = lib, vocab_size
        options = lib.llama_model_default_params()
        options.n_gpu_layers, options.use_mmap = 0, mmap
        self.model = lib.llama_model_load_from_file(str(file).encode(), options)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot read {file}")
        options = lib.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = longest, BATCH, at_once
        options.n_threads = options.n_threads_batch = threads
        options.type_k = options.type_v = kv
        options.flash_attn_type = int(flash)
        options.no_perf = True
        self.context = lib.llama_init_from_model(self.model, options)
        if not self.context:
            raise RuntimeError(f"llama.cpp makes no context of {longest} tokens for {file}")

    def begin(self):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), False)

    def read(self, tokens):
        """Take tokens in  ->  scores of the next one (V,)"""
        for n in range(0, len(tokens), BATCH):
            ids = np.ascontiguousarray(tokens[n:n + BATCH], np.int32)
            pointer = ids.ctypes.data_as(ctypes.POINTER(self.lib.llama_token))
            if code := self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(pointer, len(ids))):
                raise RuntimeError(f"llama_decode says {code}")
        scores = self.lib.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(scores, (self.vocab_size,)).copy()

    def close(self):
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)
