// Merging by rank, equation (bpe), and the two tables that make it fast: ranks of pairs, and pieces seen before.
#pragma once
#include <algorithm>
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
    void insert(int left, int right, int rank, int merged) {
        const uint64_t pair = key(left, right);
        slots[at(pair)] = {pair, rank, merged};
    }
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

// What a merge works with, kept from piece to piece so that nothing is allocated for each.  One per thread.
struct Bench {
    std::vector<int> before, after;     // the tokens that are left, as a linked list
    std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> heap;      // rank in the high half, then place
};

// The pair of lowest rank, the leftmost of equals, becomes one token, until no adjacent pair has a rank.
// Replaces `ids` by what remains of them.  O(n log n), equation (bpe).
inline void byte_pair_merge(std::vector<int> &ids, const PairTable &pairs, Bench &bench) {
    constexpr int GONE = -1;
    if (ids.size() > 0x7FFFFFF0) throw std::length_error("a piece of 2 GiB without a cut is too long to merge");
    const int n = int(ids.size());
    std::vector<int> &before = bench.before, &after = bench.after;      // C++17 lambdas cannot capture bindings
    auto &heap = bench.heap;
    const auto consider = [&](int i) {
        if (const auto *pair = pairs.find(ids[i], ids[after[i]])) heap.push(uint64_t(pair->rank) << 32 | uint32_t(i));
    };
    before.resize(n), after.resize(n);
    for (int i = 0; i < n; i++) before[i] = i - 1, after[i] = i + 1 < n ? i + 1 : GONE;
    for (int i = 0; i + 1 < n; i++) consider(i);
    while (!heap.empty()) {
        const int i = int(uint32_t(heap.top())), rank = int(heap.top() >> 32), j = after[i];
        heap.pop();
        const auto *pair = ids[i] == GONE || j == GONE ? nullptr : pairs.find(ids[i], ids[j]);
        if (!pair || pair->rank != rank) continue;      // an earlier merge took one of the two: nothing to do here
        ids[i] = pair->merged;
        ids[j] = GONE;
        after[i] = after[j];
        if (after[i] != GONE) before[after[i]] = i, consider(i);
        if (before[i] != GONE) consider(before[i]);
    }
    ids.erase(std::remove(ids.begin(), ids.end(), GONE), ids.end());
}

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
        const auto u32 = [](size_t n) { return uint32_t(n); };
        slots[at(piece, hash)] = {hash, u32(text.size()), u32(piece.size()), u32(ids.size()), u32(count)};
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
