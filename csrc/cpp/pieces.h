// Three tables around the merging: pieces met lately -> their ids, bytes of a token -> its id, and id -> bytes.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "merge.h"

// A piece of at most 32 bytes as four numbers, filled up with zeros: hashed and compared without a loop.
struct Key {
    static constexpr size_t LONGEST = 32;
    uint64_t words[4] = {};
    uint16_t length;

    // The text of the piece may be read up to `end`, which lies at the piece's end or behind it.
    Key(std::string_view piece, const char *end) : length(uint16_t(piece.size())) {
        if (size_t(end - piece.data()) < LONGEST) {
            std::memcpy(words, piece.data(), piece.size());
            return;
        }
        uint64_t mask[4];       // a copy of fixed length is a few instructions; what follows the piece is wiped out
        std::memcpy(words, piece.data(), LONGEST), std::memcpy(mask, &MASKS[LONGEST - length], LONGEST);
        for (int i = 0; i < 4; i++) words[i] &= mask[i];
    }
    uint64_t hash() const {
        return mix(words[0] * 0xA0761D6478BD642Fu + words[1] * 0xE7037ED1A0B428DBu + words[2] * 0x8EBC6AF09C88C6E3u
                   + words[3] * 0x589965CC75374CC3u + length);
    }

private:
    static constexpr std::array<unsigned char, 2 * LONGEST> masks() {
        std::array<unsigned char, 2 * LONGEST> bytes{};
        for (size_t i = 0; i < LONGEST; i++) bytes[i] = 0xFF;
        return bytes;
    }
    static const std::array<unsigned char, 2 * LONGEST> MASKS;      // ones, then zeros
};
inline const std::array<unsigned char, 2 * Key::LONGEST> Key::MASKS = Key::masks();

// Short pieces met lately and the ids they became.  Each has one place, and the newcomer takes it.
class Cache {
public:
    explicit Cache(size_t size) : lines(size) {}        // a power of two

    // Appends the piece's ids to `out` and says true, or says false.
    bool find(const Key &key, std::vector<int> &out) const {
        const Line &line = lines[at(key)];
        uint64_t differences = line.length ^ key.length;
        for (int i = 0; i < 4; i++) differences |= line.words[i] ^ key.words[i];
        if (differences) return false;
        for (int i = 0; i < line.count; i++) out.push_back(line.ids[i]);
        return true;
    }
    void insert(const Key &key, const int *ids, size_t count) {
        if (count > MOST) return;
        Line &line = lines[at(key)];
        std::copy(key.words, key.words + 4, line.words);
        std::copy(ids, ids + count, line.ids);
        line.length = key.length, line.count = uint16_t(count);
    }

private:
    static constexpr size_t MOST = 7;
    struct Line {               // 64 bytes: what the processor fetches at once
        uint64_t words[4];
        uint16_t length, count;
        int ids[MOST];
    };
    size_t at(const Key &key) const { return key.hash() & (lines.size() - 1); }
    std::vector<Line> lines;
};

// Where a token's bytes stand among those of all tokens, which are laid end to end.
struct Place { uint32_t start, length; };

inline Place append(std::string &all, std::string_view token) {
    if (all.size() + token.size() > 0x7FFFFFFF) throw std::length_error("a vocabulary of 2 GiB is too large");
    all += token;
    return {uint32_t(all.size() - token.size()), uint32_t(token.size())};
}

// Bytes of a token -> its id.
class Whole {
public:
    explicit Whole(size_t n) : slots(slots_for(n)) {}

    void insert(std::string_view token, int id) {
        longest = std::max(longest, token.size());
        const uint64_t hash = hashed(token);
        slots[at(token, hash)] = {append(text, token), uint32_t(hash >> 32), id};
    }
    // nullptr where the piece is no token
    const int *find(std::string_view piece) const {
        if (piece.size() > longest) return nullptr;
        const Slot &slot = slots[at(piece, hashed(piece))];
        return slot.place.length ? &slot.id : nullptr;
    }

private:
    struct Slot {
        Place place{};          // of no length: an empty slot
        uint32_t hash = 0;      // the half that did not choose the slot
        int id = 0;
    };
    static uint64_t hashed(std::string_view piece) {
        uint64_t h = piece.size(), word;
        const char *p = piece.data();
        size_t n = piece.size();
        for (; n >= 8; p += 8, n -= 8) std::memcpy(&word, p, 8), h = mix(h ^ word);
        word = 0;
        std::memcpy(&word, p, n);
        return mix(h ^ word);
    }
    bool holds(const Slot &slot, std::string_view piece, uint64_t hash) const {
        return slot.hash == uint32_t(hash >> 32) && slot.place.length == piece.size()
            && std::memcmp(&text[slot.place.start], piece.data(), piece.size()) == 0;
    }
    size_t at(std::string_view piece, uint64_t hash) const {
        size_t i = hash & (slots.size() - 1);
        while (slots[i].place.length && !holds(slots[i], piece, hash)) i = (i + 1) & (slots.size() - 1);
        return i;
    }
    size_t longest = 0;
    std::vector<Slot> slots;
    std::string text;
};

// Id -> the bytes it spells.  The id itself chooses the slot: ids without gaps, the usual case, never collide.
class Spelling {
public:
    static constexpr size_t READABLE = 16;      // so many bytes may be read from any token's start on

    explicit Spelling(size_t n) : slots(slots_for(n)), text(READABLE, 0) {}

    void insert(int id, std::string_view token) {
        text.resize(text.size() - READABLE);
        slots[at(id)] = {append(text, token), id};
        text.resize(text.size() + READABLE);
    }
    // nothing, not even an empty text, where no token has this id
    std::optional<std::string_view> find(int id) const {
        const Slot &slot = slots[at(id)];
        if (slot.id != id) return std::nullopt;
        return std::string_view(&text[slot.place.start], slot.place.length);
    }

private:
    struct Slot {
        Place place{};
        int id = NONE;
    };
    static constexpr int NONE = -1;
    size_t at(int id) const {
        size_t i = size_t(id) & (slots.size() - 1);
        while (slots[i].id != id && slots[i].id != NONE) i = (i + 1) & (slots.size() - 1);
        return i;
    }
    std::vector<Slot> slots;
    std::string text;
};
