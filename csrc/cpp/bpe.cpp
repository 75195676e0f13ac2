// The tokenizer's inner loops for Python: the names and answers of tinyscout/reference/bpe.py, without its patience.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <mutex>
#include <utility>

#include "learn.h"
#include "merge.h"
#include "split.h"

namespace py = pybind11;
using Integers = py::array_t<int, py::array::c_style | py::array::forcecast>;

constexpr size_t CACHED_PIECES = 1 << 16, CACHED_LENGTH = 64;      // 64 thousand pieces of at most 64 bytes

// A text's UTF-8, which lives as long as the text.  Half a surrogate pair has none: UnicodeEncodeError.
std::string_view utf8(py::handle text) {
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (!data) throw py::error_already_set();
    return {data, size_t(size)};
}

py::list as_list(const std::vector<int> &ids) {
    py::list list(ids.size());
    for (size_t i = 0; i < ids.size(); i++) PyList_SET_ITEM(list.ptr(), Py_ssize_t(i), PyLong_FromLong(ids[i]));
    return list;
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
        for (const auto &[piece, id] : whole) {
            const auto text = piece.cast<std::string_view>();
            const int value = id.cast<int>();
            this->whole.insert(text, PieceTable::hash(text), &value, 1);
        }
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
                encode({p, size_t(next - p)}, ids, work);
            }
        } else {
            const py::list pieces = split(text);
            std::vector<std::string_view> views;
            for (py::handle piece : pieces) views.push_back(utf8(piece));
            py::gil_scoped_release others_may_run;
            Work work(*this);
            for (std::string_view piece : views) encode(piece, ids, work);
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

    void encode(std::string_view piece, std::vector<int> &out, Work &work) {
        const bool cached = work.cache && piece.size() <= CACHED_LENGTH;
        const uint64_t hash = PieceTable::hash(piece);
        if (cached && seen.find(piece, hash, out)) return;
        if (whole.find(piece, hash, out)) return;
        work.ids.clear();
        for (unsigned char byte : piece) work.ids.push_back(alphabet[byte]);
        byte_pair_merge(work.ids, pairs, work.bench);
        if (cached) seen.insert(piece, hash, work.ids.data(), work.ids.size());
        out.insert(out.end(), work.ids.begin(), work.ids.end());
    }

    PairTable pairs;
    std::vector<int> alphabet;
    PieceTable whole, seen{CACHED_PIECES};
    py::object split;
    const Llama4Split *native = nullptr;        // kept alive by `split`
    std::mutex busy;
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
    py::class_<Learner>(m, "learn")
        .def(py::init([](const std::vector<py::bytes> &pieces, const std::vector<int64_t> &counts) {
            return Learner(std::vector<std::string>(pieces.begin(), pieces.end()), counts);
        }), py::arg("pieces"), py::arg("counts"))
        .def("__iter__", [](py::object self) { return self; })
        .def("__next__", &next_merge);
    m.def("byte_pair_merge", &merge_with_dict, py::arg("ids"), py::arg("pairs"));
}
