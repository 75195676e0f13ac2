// A direct-mapped cache of short pieces: the bytes of a piece -> the ids that it was encoded to.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "merge.h"

// A piece of at most 32 bytes as four integers, padded with zeros: hashed and compared without a loop over bytes.
struct PieceKey {
    static constexpr size_t MAX_BYTES = 32;
    uint64_t words[4] = {};
    uint16_t length;

    // `end` is the end of the readable text, at the end of the piece or after it.
    PieceKey(std::string_view piece, const char *end) : length(uint16_t(piece.size())) {
        if (size_t(end - piece.data()) < MAX_BYTES) {
            std::memcpy(words, piece.data(), piece.size());
            return;
        }
        uint64_t mask[4];  // a copy of fixed length takes a few instructions; the mask clears the bytes after the piece
        std::memcpy(words, piece.data(), MAX_BYTES), std::memcpy(mask, &MASKS[MAX_BYTES - length], MAX_BYTES);
        for (int i = 0; i < 4; i++) words[i] &= mask[i];
    }
    uint64_t hash() const {
        return mix64(words[0] * 0xA0761D6478BD642Fu + words[1] * 0xE7037ED1A0B428DBu + words[2] * 0x8EBC6AF09C88C6E3u +
                     words[3] * 0x589965CC75374CC3u + length);
    }

private:
    static constexpr std::array<unsigned char, 2 * MAX_BYTES> make_masks() {
        std::array<unsigned char, 2 * MAX_BYTES> bytes = {};
        for (size_t i = 0; i < MAX_BYTES; i++) bytes[i] = 0xFF;
        return bytes;
    }
    static const std::array<unsigned char, 2 * MAX_BYTES> MASKS;  // ones, then zeros
};
inline const std::array<unsigned char, 2 * PieceKey::MAX_BYTES> PieceKey::MASKS = PieceKey::make_masks();

// Short pieces that were encoded recently, and their ids.  A key has one possible line; a new piece evicts the old one.
class PieceCache {
public:
    explicit PieceCache(size_t line_count) : lines(line_count) {}  // a power of two

    // If the piece is cached, appends its ids to `out` and returns true.
    bool find(const PieceKey &key, std::vector<int> &out) const {
        const Line &line = lines[line_index(key)];
        uint64_t difference = line.length ^ key.length;
        for (int i = 0; i < 4; i++) difference |= line.words[i] ^ key.words[i];
        if (difference) return false;
        for (int i = 0; i < line.count; i++) out.push_back(line.ids[i]);
        return true;
    }
    void insert(const PieceKey &key, const int *ids, size_t count) {
        if (count > MAX_CACHED_IDS) return;
        Line &line = lines[line_index(key)];
        std::copy(key.words, key.words + 4, line.words);
        std::copy(ids, ids + count, line.ids);
        line.length = key.length, line.count = uint16_t(count);
    }

private:
    static constexpr size_t MAX_CACHED_IDS = 7;
    struct Line {  // 64 bytes, one cache line of the processor
        uint64_t words[4];
        uint16_t length, count;
        int ids[MAX_CACHED_IDS];
    };
    size_t line_index(const PieceKey &key) const { return key.hash() & (lines.size() - 1); }
    std::vector<Line> lines;
};
