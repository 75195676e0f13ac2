// Learning merges from counted pieces, equation (bpe-learn): the twin of `learn` in tinyscout/reference/bpe.py.
#pragma once
#include <cstdint>
#include <queue>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

class Learner {
public:
    Learner(const std::vector<std::string> &pieces, const std::vector<int64_t> &counts) {
        if (pieces.size() != counts.size()) throw std::invalid_argument("one count per piece, no more and no fewer");
        for (size_t n = 0; n < pieces.size(); n++) {
            const size_t start = ids.size(), stop = start + pieces[n].size();
            if (stop > 0x7FFFFFF0) throw std::length_error("more than 2 GiB of different pieces to learn from");
            for (size_t i = start; i < stop; i++) {
                ids.push_back(static_cast<unsigned char>(pieces[n][i - start]));
                before.push_back(i == start ? NONE : int(i) - 1);
                after.push_back(i + 1 == stop ? NONE : int(i) + 1);
                weight.push_back(counts[n]);
            }
            for (size_t i = start; i + 1 < stop; i++) add(ids[i], ids[i + 1], counts[n], int(i));
        }
    }

    // The next merge, or false when nothing is left to merge.
    bool next(int &left, int &right) {
        if (!most_frequent(left, right)) return false;
        const std::vector<int> places = std::move(pairs[key(left, right)].places);
        for (int i : places)        // from left to right, as in encoding: aaa is aa, a
            if (ids[i] == left && after[i] != NONE && ids[after[i]] == right) join(i, fresh);
        fresh++;
        return true;
    }

private:
    static constexpr int NONE = -1;
    struct Pair {
        int64_t count = 0;
        std::vector<int> places;        // ascending; may name places where the pair no longer stands
        bool changed = false;
    };
    struct Entry {
        int64_t count;
        uint64_t pair;
        bool operator<(const Entry &b) const { return std::tie(count, b.pair) < std::tie(b.count, pair); }
    };

    static uint64_t key(int left, int right) { return uint64_t(left) << 32 | uint32_t(right); }

    void add(int left, int right, int64_t times, int place) {
        Pair &pair = pairs[key(left, right)];
        pair.count += times;
        if (times > 0) pair.places.push_back(place);
        if (!pair.changed) changed.push_back(key(left, right)), pair.changed = true;
    }

    // The most frequent pair, the smallest ids among equals.  An entry whose count is out of date has a newer twin.
    bool most_frequent(int &left, int &right) {
        for (uint64_t k : changed) {
            Pair &pair = pairs[k];
            pair.changed = false;
            if (pair.count) heap.push({pair.count, k});
        }
        changed.clear();
        while (!heap.empty()) {
            const Entry best = heap.top();
            heap.pop();
            if (pairs[best.pair].count != best.count) continue;
            left = int(best.pair >> 32), right = int(uint32_t(best.pair));
            return true;
        }
        return false;
    }

    // Makes one token of the one at i and the one after it, and counts what that changes on both sides.
    void join(int i, int merged) {
        const int j = after[i], left = before[i], right = after[j];
        const int64_t w = weight[i];
        add(ids[i], ids[j], -w, i);
        if (left != NONE) add(ids[left], ids[i], -w, left), add(ids[left], merged, w, left);
        if (right != NONE) add(ids[j], ids[right], -w, j), add(merged, ids[right], w, i), before[right] = i;
        ids[i] = merged, ids[j] = NONE;
        after[i] = right;
    }

    std::vector<int> ids, before, after;        // the pieces as linked lists, laid end to end
    std::vector<int64_t> weight;
    int fresh = 256;                            // the id of the next merge
    std::unordered_map<uint64_t, Pair> pairs;
    std::vector<uint64_t> changed;
    std::priority_queue<Entry> heap;
};
