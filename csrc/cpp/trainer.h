// Learning merges from counted pieces, equation (bpe-learn): the same merges as tinyscout/reference/bpe.py.
#pragma once
#include <cstdint>
#include <queue>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

class BpeTrainer {
public:
    BpeTrainer(const std::vector<std::string> &pieces, const std::vector<int64_t> &counts) {
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
            for (size_t i = start; i + 1 < stop; i++) add_count(ids[i], ids[i + 1], counts[n], int(i));
        }
    }

    // Finds and applies the next merge.  Returns false if there is nothing left to merge.
    bool next_merge(int &left, int &right) {
        if (!find_max_pair(left, right)) return false;
        const std::vector<int> positions = std::move(pairs[pack_pair(left, right)].positions);
        for (int i : positions)  // from left to right, as in encoding: aaa becomes aa, a
            if (ids[i] == left && after[i] != NONE && ids[after[i]] == right) merge_at(i, next_id);
        next_id++;
        return true;
    }

private:
    static constexpr int NONE = -1;
    struct Pair {
        int64_t count = 0;
        std::vector<int> positions;  // ascending; some may be stale: the pair is no longer there
        bool is_changed = false;
    };
    struct Entry {
        int64_t count;
        uint64_t pair;
        bool operator<(const Entry &b) const { return std::tie(count, b.pair) < std::tie(b.count, pair); }
    };

    static uint64_t pack_pair(int left, int right) { return uint64_t(left) << 32 | uint32_t(right); }

    void add_count(int left, int right, int64_t count, int position) {
        Pair &pair = pairs[pack_pair(left, right)];
        pair.count += count;
        if (count > 0) pair.positions.push_back(position);
        if (!pair.is_changed) changed_pairs.push_back(pack_pair(left, right)), pair.is_changed = true;
    }

    // The most frequent pair, the smallest ids among equals.  A heap entry with an outdated count has a newer one.
    bool find_max_pair(int &left, int &right) {
        for (uint64_t packed : changed_pairs) {
            Pair &pair = pairs[packed];
            pair.is_changed = false;
            if (pair.count) heap.push({pair.count, packed});
        }
        changed_pairs.clear();
        while (!heap.empty()) {
            const Entry best = heap.top();
            heap.pop();
            if (pairs[best.pair].count != best.count) continue;
            left = int(best.pair >> 32), right = int(uint32_t(best.pair));
            return true;
        }
        return false;
    }

    // Merges the token at i with the one after it, and updates the counts of the pairs on both sides.
    void merge_at(int i, int merged) {
        const int j = after[i], left = before[i], right = after[j];
        const int64_t w = weight[i];
        add_count(ids[i], ids[j], -w, i);
        if (left != NONE) add_count(ids[left], ids[i], -w, left), add_count(ids[left], merged, w, left);
        if (right != NONE) {
            add_count(ids[j], ids[right], -w, j), add_count(merged, ids[right], w, i);
            before[right] = i;
        }
        ids[i] = merged, ids[j] = NONE;
        after[i] = right;
    }

    std::vector<int> ids, before, after;  // the pieces as linked lists, stored end to end
    std::vector<int64_t> weight;          // the count of the piece that a position belongs to
    int next_id = 256;                    // the id that the next merge creates
    std::unordered_map<uint64_t, Pair> pairs;
    std::vector<uint64_t> changed_pairs;
    std::priority_queue<Entry> heap;
};
