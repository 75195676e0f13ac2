// Merging by rank, equation (bpe), and the table of ranks that makes it fast.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
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
// Most pairs that are asked for have no rank, and a large vocabulary's table lies far from the processor.  Before it
// stands a small one of single bits, four for each slot: where the bit of a pair is 0, the pair is not in the table.
class PairTable {
public:
    struct Slot { uint64_t pair; int rank, merged; };

    explicit PairTable(size_t n) : slots(slots_for(n), Slot{EMPTY, 0, 0}), bits(slots.size() / 16) {}

    void insert(int left, int right, int rank, int merged) {
        const uint64_t pair = key(left, right), hash = mix(pair);
        slots[at(pair, hash)] = {pair, rank, merged};
        bits[word(hash)] |= bit(hash);
    }
    // nullptr where the pair has no rank
    const Slot *find(int left, int right) const {
        const uint64_t pair = key(left, right), hash = mix(pair);
        if (!(bits[word(hash)] & bit(hash))) return nullptr;
        const Slot &slot = slots[at(pair, hash)];
        return slot.pair == EMPTY ? nullptr : &slot;
    }

private:
    static constexpr uint64_t EMPTY = ~uint64_t(0);     // ids are not negative, so no pair is this
    static uint64_t key(int left, int right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }
    size_t at(uint64_t pair, uint64_t hash) const {
        size_t i = hash & (slots.size() - 1);
        while (slots[i].pair != pair && slots[i].pair != EMPTY) i = (i + 1) & (slots.size() - 1);
        return i;
    }
    size_t word(uint64_t hash) const { return hash >> 38 & (bits.size() - 1); }     // not the bits that chose the slot
    static uint64_t bit(uint64_t hash) { return uint64_t(1) << (hash >> 32 & 63); }
    std::vector<Slot> slots;
    std::vector<uint64_t> bits;
};

// What a merge works with, kept from piece to piece so that nothing is allocated for each.  One per thread.
struct Bench {
    std::vector<int> before, after;     // the tokens that are left, as a linked list
    std::vector<uint64_t> tree;         // the pairs: rank in the high half, then place
};

// The pair of lowest rank, the leftmost of equals, becomes one token, until no adjacent pair has a rank.
// Replaces `ids` by what remains of them.  O(n log n), equation (bpe).
// The pairs hold a tournament: node k of the tree has the better of its children 2k and 2k + 1, leaf n + i the pair at
// i, and so node 1 the best of all.  A change climbs up only as far as it makes a difference, mostly a step or two.
inline void byte_pair_merge(std::vector<int> &ids, const PairTable &pairs, Bench &bench) {
    constexpr int GONE = -1;
    constexpr uint64_t NO_PAIR = ~uint64_t(0);
    if (ids.size() > 0x7FFFFFF0) throw std::length_error("a piece of 2 GiB without a cut is too long to merge");
    const size_t n = ids.size();
    if (n < 2) return;
    std::vector<int> &before = bench.before, &after = bench.after;      // C++17 lambdas cannot capture bindings
    std::vector<uint64_t> &tree = bench.tree;
    const auto entry = [&](int i) {
        const auto *pair = after[i] == GONE ? nullptr : pairs.find(ids[i], ids[after[i]]);
        return pair ? uint64_t(pair->rank) << 32 | uint32_t(i) : NO_PAIR;
    };
    const auto better = [&](size_t k) { return std::min(tree[2 * k], tree[2 * k + 1]); };
    const auto enter = [&](int i, uint64_t pair) {
        size_t k = n + size_t(i);
        for (tree[k] = pair; (k /= 2) && tree[k] != better(k);) tree[k] = better(k);
    };
    before.resize(n), after.resize(n), tree.resize(2 * n);
    for (size_t i = 0; i < n; i++) before[i] = int(i) - 1, after[i] = i + 1 < n ? int(i) + 1 : GONE;
    for (size_t i = 0; i < n; i++) tree[n + i] = entry(int(i));
    for (size_t k = n; --k;) tree[k] = better(k);
    while (tree[1] != NO_PAIR) {
        const int i = int(uint32_t(tree[1])), j = after[i];
        ids[i] = pairs.find(ids[i], ids[j])->merged;
        ids[j] = GONE;
        after[i] = after[j];
        if (after[i] != GONE) before[after[i]] = i;
        enter(j, NO_PAIR);
        enter(i, entry(i));
        if (before[i] != GONE) enter(before[i], entry(before[i]));
    }
    ids.erase(std::remove(ids.begin(), ids.end(), GONE), ids.end());
}
