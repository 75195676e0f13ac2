// The vocabulary in both directions: the bytes of a token -> its id, and its id -> the bytes.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "merge.h"

// The bytes of one token within the text of a table, which holds all of its tokens end to end.
struct Span {
    uint32_t start, length;
};

inline Span append_token(std::string &text, std::string_view token) {
    if (text.size() + token.size() > 0x7FFFFFFF) throw std::length_error("a vocabulary of 2 GiB is too large");
    text += token;
    return {uint32_t(text.size() - token.size()), uint32_t(token.size())};
}

// The bytes of a token -> its id.
class TokenTable {
public:
    explicit TokenTable(size_t n) : slots(slots_for(n)) {}

    void insert(std::string_view token, int id) {
        max_length = std::max(max_length, token.size());
        const uint64_t hash = hash_bytes(token);
        slots[slot_index(token, hash)] = {append_token(text, token), uint32_t(hash >> 32), id};
    }
    // Returns nullptr if the piece is not a token.
    const int *find(std::string_view piece) const {
        if (piece.size() > max_length) return nullptr;
        const Slot &slot = slots[slot_index(piece, hash_bytes(piece))];
        return slot.span.length ? &slot.id : nullptr;
    }

private:
    struct Slot {
        Span span = {};     // length 0: an empty slot
        uint32_t hash = 0;  // the high half; the low half chose the slot
        int id = 0;
    };
    static uint64_t hash_bytes(std::string_view piece) {
        uint64_t hash = piece.size(), word;
        const char *p = piece.data();
        size_t n = piece.size();
        for (; n >= 8; p += 8, n -= 8) std::memcpy(&word, p, 8), hash = mix64(hash ^ word);
        word = 0;
        std::memcpy(&word, p, n);
        return mix64(hash ^ word);
    }
    bool is_match(const Slot &slot, std::string_view piece, uint64_t hash) const {
        return slot.hash == uint32_t(hash >> 32) && slot.span.length == piece.size() &&
               std::memcmp(&text[slot.span.start], piece.data(), piece.size()) == 0;
    }
    size_t slot_index(std::string_view piece, uint64_t hash) const {
        size_t i = hash & (slots.size() - 1);
        while (slots[i].span.length && !is_match(slots[i], piece, hash)) i = (i + 1) & (slots.size() - 1);
        return i;
    }
    size_t max_length = 0;
    std::vector<Slot> slots;
    std::string text;
};

// An id -> the bytes of its token.  The id itself chooses the slot, so ids without gaps, the usual case, never collide.
class IdToBytes {
public:
    static constexpr size_t PADDING = 16;  // this many bytes can be read from the start of any token

    explicit IdToBytes(size_t n) : slots(slots_for(n)), text(PADDING, 0) {}

    void insert(int id, std::string_view token) {
        text.resize(text.size() - PADDING);
        slots[slot_index(id)] = {append_token(text, token), id};
        text.resize(text.size() + PADDING);
    }
    // Returns nullopt, and not an empty text, if no token has this id.
    std::optional<std::string_view> find(int id) const {
        const Slot &slot = slots[slot_index(id)];
        if (slot.id != id) return std::nullopt;
        return std::string_view(&text[slot.span.start], slot.span.length);
    }

private:
    static constexpr int NO_ID = -1;
    struct Slot {
        Span span = {};
        int id = NO_ID;
    };
    size_t slot_index(int id) const {
        size_t i = size_t(id) & (slots.size() - 1);
        while (slots[i].id != id && slots[i].id != NO_ID) i = (i + 1) & (slots.size() - 1);
        return i;
    }
    std::vector<Slot> slots;
    std::string text;
};
