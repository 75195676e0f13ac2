// Merging by rank, equation (bpe), and the two tables that make it fast: ranks of pairs, and pieces seen before.
#pragma once
#include <cstdint>
#include <cstring>
#include <functional>
#include <queue>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

inline uint64_t mix(uint64_t x) {       // spreads every bit over the low ones, which choose the slot
    x *= 0x9E3779B97F4A7C15u;
    return x ^ x >> 32;
}

// Slots for n entries: a power of two, at most half of them filled, so that a search ends after a step or two.
inline size_t slots_for(size_t n) {
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    return slots;
}

// (left id, right id) -> (rank, merged id).  Open addressing: a slot is taken or the next one is.
class PairTable {
public:
    struct Slot { uint64_t pair; int rank, merged; };

    explicit PairTable(size_t n) : slots(slots_for(n), Slot{EMPTY, 0, 0}) {}

    static uint64_t key(int left, int right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }
    void insert(int left, int right, int rank, int merged) { slots[at(key(left, right))] = {key(left, right), rank, merged}; }
    const Slot *find(int left, int right) const {
        const Slot &slot = slots[at(key(left, right))];
        return slot.pair == EMPTY ? nullptr : &slot;
    }

private:
    static constexpr uint64_t EMPTY = ~uint64_t(0);     // ids are not negative, so no pair is this
    size_t at(uint64_t pair) const {
        size_t i = mix(pair) & (slots.size() - 1);
        while (slots[i].pair != pair && slots[i].pair != EMPTY) i = (i + 1) & (slots.size() - 1);
        return i;
    }
    std::vector<Slot> slots;
};

// The pair of lowest rank, the leftmost of equals, becomes one token, until no adjacent pair has a rank.  Heap and
// linked list: O(n log n).  Not made for two threads at once: it keeps its working memory for the next piece.
class Merger {
public:
    // Replaces `ids` by what remains of them.
    void merge(std::vector<int> &ids, const PairTable &pairs) {
        const int n = int(ids.size());
        if (ids.size() > 0x7FFFFFF0) throw std::length_error("a piece of 2 GiB without a cut is too long to merge");
        before.resize(n), after.resize(n);
        for (int i = 0; i < n; i++) before[i] = i - 1, after[i] = i + 1 < n ? i + 1 : GONE;
        for (int i = 0; i + 1 < n; i++) consider(i, ids, pairs);
        while (!heap.empty()) {
            const uint64_t best = heap.top();
            heap.pop();
            const int i = int(uint32_t(best)), rank = int(best >> 32), j = after[i];
            if (ids[i] == GONE || j == GONE) continue;
            const auto *pair = pairs.find(ids[i], ids[j]);
            if (!pair || pair->rank != rank) continue;      // an earlier merge took one of the two
            ids[i] = pair->merged;
            ids[j] = GONE;
            after[i] = after[j];
            if (after[i] != GONE) before[after[i]] = i, consider(i, ids, pairs);
            if (before[i] != GONE) consider(before[i], ids, pairs);
        }
        size_t kept = 0;
        for (int id : ids) if (id != GONE) ids[kept++] = id;
        ids.resize(kept);
    }

private:
    static constexpr int GONE = -1;
    void consider(int i, const std::vector<int> &ids, const PairTable &pairs) {
        if (const auto *pair = pairs.find(ids[i], ids[after[i]])) heap.push(uint64_t(pair->rank) << 32 | uint32_t(i));
    }
    std::vector<int> before, after;
    std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> heap;
};

// Bytes of a piece -> its ids.  Both are laid end to end in two long arrays, and a slot says where.
class PieceTable {
public:
    struct Slot { uint64_t hash; uint32_t text, length, first, count; };    // count 0: an empty slot

    explicit PieceTable(size_t limit) : limit(limit), slots(slots_for(limit)) {}

    static uint64_t hash(std::string_view piece) {
        uint64_t h = piece.size(), word;
        const char *p = piece.data();
        size_t n = piece.size();
        for (; n >= 8; p += 8, n -= 8) std::memcpy(&word, p, 8), h = mix(h ^ word);
        word = 0;
        std::memcpy(&word, p, n);
        return mix(h ^ word);
    }

    // Appends the piece's ids to `out` and says true, or says false.
    bool find(std::string_view piece, uint64_t hash, std::vector<int> &out) const {
        const Slot &slot = slots[at(piece, hash)];
        for (uint32_t i = 0; i < slot.count; i++) out.push_back(ids[slot.first + i]);
        return slot.count > 0;
    }

    // Remembers a piece that `find` did not find.  A full table forgets everything and starts again.
    void insert(std::string_view piece, uint64_t hash, const int *first, size_t count) {
        if (filled == limit) {
            slots.assign(slots.size(), Slot{});
            text.clear(), ids.clear(), filled = 0;
        }
        slots[at(piece, hash)] = {hash, uint32_t(text.size()), uint32_t(piece.size()), uint32_t(ids.size()), uint32_t(count)};
        text += piece;
        ids.insert(ids.end(), first, first + count);
        filled++;
    }

private:
    size_t at(std::string_view piece, uint64_t hash) const {
        size_t i = hash & (slots.size() - 1);
        while (slots[i].count && !(slots[i].hash == hash && slots[i].length == piece.size()
                                   && std::memcmp(&text[slots[i].text], piece.data(), piece.size()) == 0))
            i = (i + 1) & (slots.size() - 1);
        return i;
    }
    size_t limit, filled = 0;
    std::vector<Slot> slots;
    std::string text;
    std::vector<int> ids;
};
