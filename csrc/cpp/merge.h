// Merging by rank, equation (bpe), and the hash table of ranks that makes it fast.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

// Spreads every bit of x over the low bits, which choose the slot of a hash table.
inline uint64_t mix64(uint64_t x) {
    x *= 0x9E3779B97F4A7C15u;
    return x ^ x >> 32;
}

// The number of slots for n entries: a power of two and at least 2 n, so that a search ends after a step or two.
inline size_t slots_for(size_t n) {
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    return slots;
}

// (left id, right id) -> (rank, merged id): a hash table with open addressing and linear probing.
// Most of the pairs looked up have no rank, and the table of a large vocabulary does not fit into the fast caches.
// A filter of single bits, four per slot, is checked first: if the bit of a pair is 0, the pair is not in the table.
class PairTable {
public:
    struct Slot {
        uint64_t pair;
        int rank, merged;
    };

    explicit PairTable(size_t n) : slots(slots_for(n), Slot {EMPTY, 0, 0}), filter(slots.size() / 16) {}

    void insert(int left, int right, int rank, int merged) {
        const uint64_t pair = pack_pair(left, right), hash = mix64(pair);
        slots[slot_index(pair, hash)] = {pair, rank, merged};
        filter[filter_word(hash)] |= filter_bit(hash);
    }
    // Returns nullptr if the pair has no rank.
    const Slot *find(int left, int right) const {
        const uint64_t pair = pack_pair(left, right), hash = mix64(pair);
        if (!(filter[filter_word(hash)] & filter_bit(hash))) return nullptr;
        const Slot &slot = slots[slot_index(pair, hash)];
        return slot.pair == EMPTY ? nullptr : &slot;
    }

private:
    static constexpr uint64_t EMPTY = ~uint64_t(0);  // ids are not negative, so no pair has this value
    static uint64_t pack_pair(int left, int right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }
    size_t slot_index(uint64_t pair, uint64_t hash) const {
        size_t i = hash & (slots.size() - 1);
        while (slots[i].pair != pair && slots[i].pair != EMPTY) i = (i + 1) & (slots.size() - 1);
        return i;
    }
    // Both use bits of the hash that do not choose the slot.
    size_t filter_word(uint64_t hash) const { return hash >> 38 & (filter.size() - 1); }
    static uint64_t filter_bit(uint64_t hash) { return uint64_t(1) << (hash >> 32 & 63); }
    std::vector<Slot> slots;
    std::vector<uint64_t> filter;
};

// The working memory of a merge, reused from piece to piece so that no piece allocates.  One per thread.
struct MergeScratch {
    std::vector<int> before, after;  // the remaining tokens as a linked list
    std::vector<uint64_t> tree;      // the pairs: the rank in the high half, the position in the low half
};

// Merges the adjacent pair of lowest rank, the leftmost of equals, until no adjacent pair has a rank.
// Replaces `ids` by the ids that remain.  O(n log n), equation (bpe).
// The pairs form a tournament tree: leaf n + i is the pair at i, node k is the better of its children 2k and 2k + 1,
// and node 1 is the best pair of all.  An update stops at the first node that it does not change, often after a step or
// two.
inline void byte_pair_merge(std::vector<int> &ids, const PairTable &pairs, MergeScratch &scratch) {
    constexpr int REMOVED = -1;
    constexpr uint64_t NO_PAIR = ~uint64_t(0);
    if (ids.size() > 0x7FFFFFF0) throw std::length_error("a piece of 2 GiB without a cut is too long to merge");
    const size_t n = ids.size();
    if (n < 2) return;
    std::vector<int> &before = scratch.before, &after = scratch.after;  // C++17 lambdas cannot capture bindings
    std::vector<uint64_t> &tree = scratch.tree;
    const auto rank_pair = [&](int i) {
        const auto *pair = after[i] == REMOVED ? nullptr : pairs.find(ids[i], ids[after[i]]);
        return pair ? uint64_t(pair->rank) << 32 | uint32_t(i) : NO_PAIR;
    };
    const auto better_child = [&](size_t k) { return std::min(tree[2 * k], tree[2 * k + 1]); };
    const auto update_leaf = [&](int i, uint64_t pair) {
        size_t k = n + size_t(i);
        for (tree[k] = pair; (k /= 2) && tree[k] != better_child(k);) tree[k] = better_child(k);
    };
    before.resize(n), after.resize(n), tree.resize(2 * n);
    for (size_t i = 0; i < n; i++) before[i] = int(i) - 1, after[i] = i + 1 < n ? int(i) + 1 : REMOVED;
    for (size_t i = 0; i < n; i++) tree[n + i] = rank_pair(int(i));
    for (size_t k = n; --k;) tree[k] = better_child(k);
    while (tree[1] != NO_PAIR) {
        const int i = int(uint32_t(tree[1])), j = after[i];
        ids[i] = pairs.find(ids[i], ids[j])->merged;
        ids[j] = REMOVED;
        after[i] = after[j];
        if (after[i] != REMOVED) before[after[i]] = i;
        update_leaf(j, NO_PAIR);
        update_leaf(i, rank_pair(i));
        if (before[i] != REMOVED) update_leaf(before[i], rank_pair(before[i]));
    }
    ids.erase(std::remove(ids.begin(), ids.end(), REMOVED), ids.end());
}
