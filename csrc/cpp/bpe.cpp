// The tokenizer's inner loops for Python: the same names and results as tinyscout/reference/bpe.py, many times faster.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <mutex>
#include <utility>

#include "merge.h"
#include "piece_cache.h"
#include "split.h"
#include "token_table.h"
#include "trainer.h"

namespace py = pybind11;
using IntArray = py::array_t<int, py::array::c_style | py::array::forcecast>;

constexpr size_t CACHED_PIECES = 1 << 16;    // of 64 bytes each: 4 MiB
constexpr size_t CACHED_INTEGERS = 1 << 20;  // ids below this share one Python integer each

// The UTF-8 of a text, valid as long as the text.  Raises UnicodeEncodeError for a lone surrogate.
std::string_view view_utf8(py::handle text) {
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (!data) throw py::error_already_set();
    return {data, size_t(size)};
}

class Encoder {
public:
    Encoder(const IntArray &pairs, std::vector<int> byte_ids, const py::dict &token_table, py::object split)
        : pairs(size_t(pairs.shape(0))), byte_ids(std::move(byte_ids)), token_table(token_table.size() + 1),
          split(std::move(split)) {
        if (pairs.ndim() != 2 || pairs.shape(1) != 4) throw std::invalid_argument("pairs must be an (n, 4) array");
        if (this->byte_ids.size() != 256) throw std::invalid_argument("byte_ids has one id per byte: 256");
        for (py::ssize_t i = 0; i < pairs.shape(0); i++)
            this->pairs.insert(pairs.at(i, 0), pairs.at(i, 1), pairs.at(i, 2), pairs.at(i, 3));
        for (const auto &[token, id] : token_table)
            this->token_table.insert(token.cast<std::string_view>(), id.cast<int>());
        if (py::isinstance<Llama4Split>(this->split)) llama4_split = this->split.cast<const Llama4Split *>();
    }

    py::list operator()(const py::str &text) {
        std::vector<int> ids;
        if (llama4_split) {
            const std::string_view data = view_utf8(text);
            py::gil_scoped_release release;
            EncodeState state(*this);
            ids.reserve(data.size() / 4);
            for (const char *p = data.data(), *end = p + data.size(), *piece_end; p < end; p = piece_end) {
                piece_end = llama4_split->find_piece_end(p, end);
                encode_piece({p, size_t(piece_end - p)}, end, ids, state);
            }
        } else {
            const py::list pieces = split(text);
            std::vector<std::string_view> views;
            for (py::handle piece : pieces) views.push_back(view_utf8(piece));
            py::gil_scoped_release release;
            EncodeState state(*this);
            for (std::string_view piece : views) encode_piece(piece, piece.data() + piece.size(), ids, state);
        }
        return to_list(ids);
    }

private:
    // The state of one call.  All threads share one cache: a call that does not get its lock works without it.
    struct EncodeState {
        explicit EncodeState(Encoder &encoder) : cache_lock(encoder.cache_mutex, std::try_to_lock) {}
        std::unique_lock<std::mutex> cache_lock;
        MergeScratch scratch;
        std::vector<int> ids;
    };

    // Appends the ids of a piece to `out`.  `end` is the end of the text that holds the piece.
    void encode_piece(std::string_view piece, const char *end, std::vector<int> &out, EncodeState &state) {
        if (!state.cache_lock || piece.size() > PieceKey::MAX_BYTES) return encode_uncached(piece, out, state);
        const PieceKey key(piece, end);
        if (cache.find(key, out)) return;
        const size_t start = out.size();
        encode_uncached(piece, out, state);
        cache.insert(key, out.data() + start, out.size() - start);
    }

    void encode_uncached(std::string_view piece, std::vector<int> &out, EncodeState &state) const {
        if (const int *id = token_table.find(piece)) return out.push_back(*id);
        state.ids.clear();
        for (unsigned char byte : piece) state.ids.push_back(byte_ids[byte]);
        byte_pair_merge(state.ids, pairs, state.scratch);
        out.insert(out.end(), state.ids.begin(), state.ids.end());
    }

    // A list of Python integers, each id created once: a long list then takes 8 bytes per id instead of 40.
    py::list to_list(const std::vector<int> &ids) {
        py::list list(ids.size());
        for (size_t i = 0; i < ids.size(); i++) {
            const auto id = size_t(ids[i]);
            if (id >= CACHED_INTEGERS) {
                PyList_SET_ITEM(list.ptr(), Py_ssize_t(i), PyLong_FromSize_t(id));
                continue;
            }
            if (id >= integers.size()) integers.resize(id + 1);
            if (!integers[id]) integers[id] = py::int_(id);
            PyList_SET_ITEM(list.ptr(), Py_ssize_t(i), py::object(integers[id]).release().ptr());
        }
        return list;
    }

    PairTable pairs;
    std::vector<int> byte_ids;
    TokenTable token_table;  // pieces that are tokens themselves and are looked up instead of merged
    PieceCache cache {CACHED_PIECES};
    std::vector<py::object> integers;
    py::object split;
    const Llama4Split *llama4_split = nullptr;  // owned by `split`; nullptr if that is another function
    std::mutex cache_mutex;
};

class Decoder {
public:
    explicit Decoder(const py::dict &tokens) : id_to_bytes(tokens.size()) {
        for (const auto &[id, token] : tokens) id_to_bytes.insert(id.cast<int>(), token.cast<std::string_view>());
    }

    py::bytes operator()(const py::object &ids) const {
        const auto items = py::reinterpret_steal<py::object>(PySequence_Fast(ids.ptr(), "ids come in a row"));
        if (!items) throw py::error_already_set();
        constexpr size_t PADDING = IdToBytes::PADDING;
        size_t capacity = 4 * size_t(PySequence_Fast_GET_SIZE(items.ptr())) + PADDING, size = 0;
        GrowingBytes bytes(capacity);
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.ptr()); i++) {
            const std::string_view token = find_token(PySequence_Fast_GET_ITEM(items.ptr(), i));
            if (capacity - size < std::max(token.size(), PADDING))
                bytes.resize(capacity += capacity / 2 + token.size());
            // a copy of fixed length takes a few instructions; the next token overwrites the surplus
            const size_t n = token.size() <= PADDING ? PADDING : token.size();
            std::memcpy(bytes.data() + size, token.data(), n);
            size += token.size();
        }
        bytes.resize(size);
        return bytes.release();
    }

private:
    // A Python bytes object under construction: filled in place, and not copied at the end.
    class GrowingBytes {
    public:
        explicit GrowingBytes(size_t capacity) : bytes(PyBytes_FromStringAndSize(nullptr, Py_ssize_t(capacity))) {
            throw_if_null();
        }
        GrowingBytes(const GrowingBytes &) = delete;
        ~GrowingBytes() { Py_XDECREF(bytes); }
        char *data() { return PyBytes_AS_STRING(bytes); }
        void resize(size_t capacity) { _PyBytes_Resize(&bytes, Py_ssize_t(capacity)), throw_if_null(); }
        py::bytes release() { return py::reinterpret_steal<py::bytes>(std::exchange(bytes, nullptr)); }

    private:
        void throw_if_null() const {
            if (!bytes) throw py::error_already_set();
        }
        PyObject *bytes;
    };

    // The bytes of one id.  Raises KeyError if it is not the id of a token, whatever its type.
    std::string_view find_token(py::handle borrowed) const {
        const auto item = py::reinterpret_borrow<py::object>(borrowed);  // its __index__ may change the list
        const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(item.ptr()));
        const long long id = number ? PyLong_AsLongLong(number.ptr()) : -1;
        const auto token = id < 0 || id > 0x7FFFFFFF ? std::nullopt : id_to_bytes.find(int(id));
        if (token) return *token;
        PyErr_SetObject(PyExc_KeyError, py::make_tuple(item).ptr());
        throw py::error_already_set();
    }

    IdToBytes id_to_bytes;
};

// byte_pair_merge with the reference's table of pairs: {(left, right): (rank, merged)}.
std::vector<int> merge_with_dict(std::vector<int> ids, const py::dict &pairs) {
    PairTable table(pairs.size());
    for (const auto &[pair, value] : pairs) {
        const auto [left, right] = pair.cast<std::pair<int, int>>();
        const auto [rank, merged] = value.cast<std::pair<int, int>>();
        table.insert(left, right, rank, merged);
    }
    MergeScratch scratch;
    byte_pair_merge(ids, table, scratch);
    return ids;
}

py::list split_text(const Llama4Split &splitter, const py::str &text) {
    const std::string_view data = view_utf8(text);
    py::list pieces;
    for (const char *p = data.data(), *end = p + data.size(), *piece_end; p < end; p = piece_end) {
        piece_end = splitter.find_piece_end(p, end);
        pieces.append(py::str(p, size_t(piece_end - p)));
    }
    return pieces;
}

py::tuple next_merge(BpeTrainer &trainer) {
    int left, right;
    bool found;
    {
        py::gil_scoped_release release;
        found = trainer.next_merge(left, right);
    }
    if (!found) throw py::stop_iteration();
    return py::make_tuple(left, right);
}

BpeTrainer make_trainer(const std::vector<py::bytes> &pieces, const std::vector<int64_t> &counts) {
    return BpeTrainer(std::vector<std::string>(pieces.begin(), pieces.end()), counts);
}

PYBIND11_MODULE(_bpe, m) {
    m.doc() = "The tokenizer's inner loops in C++; tinyscout.reference.bpe says what they mean.";
    py::class_<Llama4Split>(m, "Llama4Split")
        .def(py::init([](const py::bytes &classes) { return Llama4Split(std::string(classes)); }), py::arg("classes"))
        .def("__call__", &split_text, py::arg("text"));
    py::class_<Encoder>(m, "Encoder")
        .def(py::init<IntArray, std::vector<int>, py::dict, py::object>(), py::arg("pairs"), py::arg("byte_ids"),
             py::arg("token_table"), py::arg("split"))
        .def("__call__", &Encoder::operator(), py::arg("text"));
    py::class_<Decoder>(m, "Decoder")
        .def(py::init<py::dict>(), py::arg("id_to_bytes"))
        .def("__call__", &Decoder::operator(), py::arg("ids"));
    py::class_<BpeTrainer>(m, "train_bpe")
        .def(py::init(&make_trainer), py::arg("pieces"), py::arg("counts"))
        .def("__iter__", [](py::object self) { return self; })
        .def("__next__", &next_merge);
    m.def("byte_pair_merge", &merge_with_dict, py::arg("ids"), py::arg("pairs"));
}
