"""llama.cpp as an engine, through the C interface of llama-cpp-python."""
import ctypes
from functools import cache

import numpy as np

BATCH = 2048                        # most tokens per call
FLOAT32, FLOAT16 = 0, 1             # ggml's type ids, for keys and values


@cache
def silence(lib):
    """Suppress the library's messages.  The callback must outlive all calls; @cache keeps it alive."""
    callback = lib.llama_log_callback(lambda level, text, data: None)
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    lib.llama_backend_init()
    return callback


class LlamaCppEngine:
    """llama.cpp on a GGUF file, with the settings that were fastest in our tests.

    Its flash attention speeds up a prompt and slows down decoding after a long one, so there are two contexts.  Keys
    and values are float16, llama.cpp's default.
    """

    def __init__(self, file, threads, max_tokens, vocab_size, lib, kv_dtype=FLOAT16, on_close=lambda: None):
        silence(lib)
        self.lib, self.vocab_size, self.on_close = lib, vocab_size, on_close
        self.model, self.contexts = None, {}
        options = lib.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = lib.llama_model_load_from_file(str(file).encode(), options)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot read {file}")
        for phase, flash in ("prefill", 1), ("decode", 0):
            options = lib.llama_context_default_params()
            options.n_ctx, options.n_batch = max_tokens, BATCH
            options.n_ubatch = BATCH if flash else 512      # tokens that go through the layers together
            options.n_threads = options.n_threads_batch = threads
            options.flash_attn_type, options.type_k, options.type_v, options.no_perf = flash, kv_dtype, kv_dtype, True
            self.contexts[phase] = lib.llama_init_from_model(self.model, options)
            if not self.contexts[phase]:
                raise RuntimeError(f"llama.cpp cannot make a context of {max_tokens} tokens for {file}")
        self.context = self.contexts["prefill"]

    def reset(self, phase):
        self.context = self.contexts[phase]
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), False)

    def feed(self, tokens):
        """Feed tokens  ->  logits of the next token (V,)"""
        for n in range(0, len(tokens), BATCH):
            ids = np.ascontiguousarray(tokens[n:n + BATCH], np.int32)
            pointer = ids.ctypes.data_as(ctypes.POINTER(self.lib.llama_token))
            if code := self.lib.llama_decode(self.context, self.lib.llama_batch_get_one(pointer, len(ids))):
                raise RuntimeError(f"llama_decode returned {code}")
        logits = self.lib.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(logits, (self.vocab_size,)).copy()

    def close(self):
        for context in self.contexts.values():
            self.lib.llama_free(context)
        self.lib.llama_model_free(self.model)
        self.contexts, self.model = {}, None
        self.on_close()
