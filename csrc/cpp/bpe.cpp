// The tokenizer's inner loops for Python: the names and answers of tinyscout/reference/bpe.py, without its patience.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <mutex>
#include <utility>

#include "learn.h"
#include "merge.h"
#include "pieces.h"
#include "split.h"

namespace py = pybind11;
using Integers = py::array_t<int, py::array::c_style | py::array::forcecast>;

constexpr size_t CACHED_PIECES = 1 << 16;      // of 64 bytes each: 4 MiB

// A text's UTF-8, which lives as long as the text.  Half a surrogate pair has none: UnicodeEncodeError.
std::string_view utf8(py::handle text) {
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (!data) throw py::error_already_set();
    return {data, size_t(size)};
}

class Encoder {
public:
    Encoder(const Integers &pairs, std::vector<int> alphabet,
            const py::dict &whole, py::object split)
        : pairs(size_t(pairs.shape(0))), alphabet(std::move(alphabet)), whole(whole.size() + 1),
          split(std::move(split)) {
        if (pairs.ndim() != 2 || pairs.shape(1) != 4) throw std::invalid_argument("pairs must be an (n, 4) array");
        if (this->alphabet.size() != 256) throw std::invalid_argument("the alphabet is one id per byte: 256");
        for (py::ssize_t i = 0; i < pairs.shape(0); i++)
            this->pairs.insert(pairs.at(i, 0), pairs.at(i, 1), pairs.at(i, 2), pairs.at(i, 3));
        for (const auto &[piece, id] : whole)
            this->whole.insert(piece.cast<std::string_view>(), id.cast<int>());
        if (py::isinstance<Llama4Split>(this->split)) native = this->split.cast<const Llama4Split *>();
    }

    py::list operator()(const py::str &text) {
        std::vector<int> ids;
        if (native) {
            const std::string_view data = utf8(text);
            py::gil_scoped_release others_may_run;
            Work work(*this);
            ids.reserve(data.size() / 4);
            for (const char *p = data.data(), *end = p + data.size(), *next; p < end; p = next) {
                next = native->next(p, end);
                encode({p, size_t(next - p)}, end, ids, work);
            }
        } else {
            const py::list pieces = split(text);
            std::vector<std::string_view> views;
            for (py::handle piece : pieces) views.push_back(utf8(piece));
            py::gil_scoped_release others_may_run;
            Work work(*this);
            for (std::string_view piece : views) encode(piece, piece.data() + piece.size(), ids, work);
        }
        return as_list(ids);
    }

private:
    // What one call needs for itself.  The cache is one for all threads: who does not get it works without.
    struct Work {
        explicit Work(Encoder &encoder) : cache(encoder.busy, std::try_to_lock) {}
        std::unique_lock<std::mutex> cache;
        Bench bench;
        std::vector<int> ids;
    };

    // Appends the ids of a piece, in a text that goes on to `end`.
    void encode(std::string_view piece, const char *end, std::vector<int> &out, Work &work) {
        if (!work.cache || piece.size() > Key::LONGEST) return encode_anew(piece, out, work);
        const Key key(piece, end);
        if (seen.find(key, out)) return;
        const size_t first = out.size();
        encode_anew(piece, out, work);
        seen.insert(key, out.data() + first, out.size() - first);
    }

    void encode_anew(std::string_view piece, std::vector<int> &out, Work &work) const {
        if (const int *id = whole.find(piece)) return out.push_back(*id);
        work.ids.clear();
        for (unsigned char byte : piece) work.ids.push_back(alphabet[byte]);
        byte_pair_merge(work.ids, pairs, work.bench);
        out.insert(out.end(), work.ids.begin(), work.ids.end());
    }

    // Python's integers, each made once: a list of many ids then costs 8 bytes for each of them, and not 40.
    py::list as_list(const std::vector<int> &ids) {
        py::list list(ids.size());
        for (size_t i = 0; i < ids.size(); i++) {
            const auto id = size_t(ids[i]);
            if (id >= KEPT) {
                PyList_SET_ITEM(list.ptr(), Py_ssize_t(i), PyLong_FromSize_t(id));
                continue;
            }
            if (id >= integers.size()) integers.resize(id + 1);
            if (!integers[id]) integers[id] = py::int_(id);
            PyList_SET_ITEM(list.ptr(), Py_ssize_t(i), py::object(integers[id]).release().ptr());
        }
        return list;
    }

    static constexpr size_t KEPT = 1 << 20;     // ids below this are kept
    PairTable pairs;
    std::vector<int> alphabet;
    Whole whole;
    Cache seen{CACHED_PIECES};
    std::vector<py::object> integers;
    py::object split;
    const Llama4Split *native = nullptr;        // kept alive by `split`
    std::mutex busy;
};

class Decoder {
public:
    explicit Decoder(const py::dict &bytes_of) : spelling(bytes_of.size()) {
        for (const auto &[id, token] : bytes_of) spelling.insert(id.cast<int>(), token.cast<std::string_view>());
    }

    py::bytes operator()(const py::object &ids) const {
        const auto items = py::reinterpret_steal<py::object>(PySequence_Fast(ids.ptr(), "ids come in a row"));
        if (!items) throw py::error_already_set();
        size_t room = 4 * size_t(PySequence_Fast_GET_SIZE(items.ptr())) + Spelling::READABLE, size = 0;
        Growing bytes(room);
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.ptr()); i++) {
            const std::string_view token = spelled(PySequence_Fast_GET_ITEM(items.ptr(), i));
            if (room - size < std::max(token.size(), Spelling::READABLE)) bytes.resize(room += room / 2 + token.size());
            // a copy of fixed length is a few instructions; what comes too much is written over
            const size_t n = token.size() <= Spelling::READABLE ? Spelling::READABLE : token.size();
            std::memcpy(bytes.data() + size, token.data(), n);
            size += token.size();
        }
        bytes.resize(size);
        return bytes.release();
    }

private:
    // Python bytes that are not finished: filled in place, not copied at the end.
    class Growing {
    public:
        explicit Growing(size_t room) : bytes(PyBytes_FromStringAndSize(nullptr, Py_ssize_t(room))) { check(); }
        Growing(const Growing &) = delete;
        ~Growing() { Py_XDECREF(bytes); }
        char *data() { return PyBytes_AS_STRING(bytes); }
        void resize(size_t room) { _PyBytes_Resize(&bytes, Py_ssize_t(room)), check(); }
        py::bytes release() { return py::reinterpret_steal<py::bytes>(std::exchange(bytes, nullptr)); }
    private:
        void check() const { if (!bytes) throw py::error_already_set(); }
        PyObject *bytes;
    };

    // What one id spells.  KeyError where it is none, of whatever type.
    std::string_view spelled(py::handle borrowed) const {
        const auto item = py::reinterpret_borrow<py::object>(borrowed);     // its __index__ may change the list
        const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(item.ptr()));
        const long long id = number ? PyLong_AsLongLong(number.ptr()) : -1;
        const auto token = id < 0 || id > 0x7FFFFFFF ? std::nullopt : spelling.find(int(id));
        if (token) return *token;
        PyErr_SetObject(PyExc_KeyError, py::make_tuple(item).ptr());
        throw py::error_already_set();
    }

    Spelling spelling;
};

// {(left, right): (rank, merged)}, as the reference takes it
std::vector<int> merge_with_dict(std::vector<int> ids, const py::dict &pairs) {
    PairTable table(pairs.size());
    for (const auto &[pair, value] : pairs) {
        const auto [left, right] = pair.cast<std::pair<int, int>>();
        const auto [rank, merged] = value.cast<std::pair<int, int>>();
        table.insert(left, right, rank, merged);
    }
    Bench bench;
    byte_pair_merge(ids, table, bench);
    return ids;
}

py::list split(const Llama4Split &cut, const py::str &text) {
    const std::string_view data = utf8(text);
    py::list pieces;
    for (const char *p = data.data(), *end = p + data.size(), *next; p < end; p = next) {
        next = cut.next(p, end);
        pieces.append(py::str(p, size_t(next - p)));
    }
    return pieces;
}

py::tuple next_merge(Learner &learner) {
    int left, right;
    bool found;
    {
        py::gil_scoped_release others_may_run;
        found = learner.next(left, right);
    }
    if (!found) throw py::stop_iteration();
    return py::make_tuple(left, right);
}

PYBIND11_MODULE(_bpe, m) {
    m.doc() = "The tokenizer's inner loops in C++; tinyscout.reference.bpe says what they mean.";
    py::class_<Llama4Split>(m, "Llama4Split")
        .def(py::init([](const py::bytes &classes) { return Llama4Split(std::string(classes)); }), py::arg("classes"))
        .def("__call__", &split, py::arg("text"));
    py::class_<Encoder>(m, "Encoder")
        .def(py::init<Integers, std::vector<int>, py::dict, py::object>(),
             py::arg("pairs"), py::arg("alphabet"), py::arg("whole"), py::arg("split"))
        .def("__call__", &Encoder::operator(), py::arg("text"));
    py::class_<Decoder>(m, "Decoder")
        .def(py::init<py::dict>(), py::arg("bytes_of"))
        .def("__call__", &Decoder::operator(), py::arg("ids"));
    py::class_<Learner>(m, "learn")
        .def(py::init([](const std::vector<py::bytes> &pieces, const std::vector<int64_t> &counts) {
            return Learner(std::vector<std::string>(pieces.begin(), pieces.end()), counts);
        }), py::arg("pieces"), py::arg("counts"))
        .def("__iter__", [](py::object self) { return self; })
        .def("__next__", &next_merge);
    m.def("byte_pair_merge", &merge_with_dict, py::arg("ids"), py::arg("pairs"));
}
