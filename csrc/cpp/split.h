// Llama 4's split pattern as a hand-written scanner: the same pieces as the regular expression LLAMA4_PATTERN, many
// times faster.  A regular expression tries its alternatives in order and backtracks; here every alternative is one
// scan over characters of certain classes, which remembers the position to backtrack to.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

class Llama4Split {
public:
    // `classes` has one byte per code point, the index of a bit of Class, from Python, whose `regex` knows Unicode.
    explicit Llama4Split(std::string classes) : classes(std::move(classes)) {
        if (this->classes.size() != 0x110000) throw std::invalid_argument("one class per code point: 0x110000 bytes");
    }

    // Returns the end of the piece that starts at p.  The text is valid UTF-8 and p is before its end.
    const char *find_piece_end(const char *p, const char *end) const {
        const auto [kind, width] = decode(p);
        // a word may begin with one character that is not part of it, such as a space
        const char *second = kind & (NEWLINE | LETTER | NUMBER) ? nullptr : p + width;
        const char *e = second ? match_lower_word(second, end) : nullptr;
        if (!e) e = match_lower_word(p, end);
        if (!e && second) e = match_upper_word(second, end);
        if (!e) e = match_upper_word(p, end);
        if (e) return skip_contraction(e, end);
        if (kind == NUMBER) return skip_digits(p, end);
        const char *start = *p == ' ' ? p + 1 : p;
        if ((e = skip_run(start, end, OTHER | MARK)) > start) {
            while (e < end && (*e == '\r' || *e == '\n' || *e == '/')) e++;
            return e;
        }
        return skip_spaces(p, end);
    }

private:
    enum Class : unsigned {  // one bit each, so that a set of classes is one integer
        OTHER = 1 << 0,
        UPPER = 1 << 1,
        LOWER = 1 << 2,
        CASELESS = 1 << 3,
        MARK = 1 << 4,
        NUMBER = 1 << 5,
        NEWLINE = 1 << 6,
        SPACE = 1 << 7,
        LETTER = UPPER | LOWER | CASELESS,
        UPPER_SET = UPPER | CASELESS | MARK,  // the two character sets of the pattern
        LOWER_SET = LOWER | CASELESS | MARK,
    };
    struct Character {
        unsigned kind;
        int width;
    };

    // The class of the character at p and its number of bytes.
    Character decode(const char *p) const {
        const auto byte = [p](int i) { return static_cast<unsigned char>(p[i]); };
        const auto kind = [this](unsigned code) { return 1u << classes[code]; };
        if (byte(0) < 0x80) return {kind(byte(0)), 1};
        if (byte(0) < 0xE0) return {kind((byte(0) & 31) << 6 | (byte(1) & 63)), 2};
        if (byte(0) < 0xF0) return {kind((byte(0) & 15) << 12 | (byte(1) & 63) << 6 | (byte(2) & 63)), 3};
        return {kind((byte(0) & 7) << 18 | (byte(1) & 63) << 12 | (byte(2) & 63) << 6 | (byte(3) & 63)), 4};
    }

    // Returns the end of the run of characters whose class is one of `kinds`.
    const char *skip_run(const char *p, const char *end, unsigned kinds) const {
        while (p < end) {
            const auto [kind, width] = decode(p);
            if (!(kind & kinds)) break;
            p += width;
        }
        return p;
    }

    // UPPER_SET* LOWER_SET+.  UPPER_SET is greedy; if no LOWER follows, it backtracks to the last character of both.
    const char *match_lower_word(const char *p, const char *end) const {
        const char *last_in_both = nullptr;
        while (p < end) {
            const auto [kind, width] = decode(p);
            if (!(kind & UPPER_SET)) break;
            p += width;
            if (kind & LOWER_SET) last_in_both = p;
        }
        const char *e = skip_run(p, end, LOWER_SET);
        return e > p ? e : last_in_both;
    }

    // UPPER_SET+ LOWER_SET*, tried only if match_lower_word found nothing: then no character of LOWER_SET follows.
    const char *match_upper_word(const char *p, const char *end) const {
        const char *e = skip_run(p, end, UPPER_SET);
        return e > p ? e : nullptr;
    }

    // 's 't 're 've 'm 'll 'd in either case.  U+017F, the long s, is an s too when case is ignored.
    static const char *skip_contraction(const char *p, const char *end) {
        if (end - p < 2 || *p != '\'') return p;
        const char a = p[1] | 0x20, b = end - p > 2 ? p[2] | 0x20 : 0;
        if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
        if ((b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l')) return p + 3;
        if (end - p > 2 && std::string_view(p + 1, 2) == "\xC5\xBF") return p + 3;
        return p;
    }

    // At most three digits.
    const char *skip_digits(const char *p, const char *end) const {
        for (int n = 0; n < 3 && p < end; n++) {
            const auto [kind, width] = decode(p);
            if (kind != NUMBER) break;
            p += width;
        }
        return p;
    }

    // Up to the last line break; if there is none, all but the last space, which belongs to the word that follows.
    const char *skip_spaces(const char *p, const char *end) const {
        const char *start = p, *last = p, *line_end = nullptr;
        while (p < end) {
            const auto [kind, width] = decode(p);
            if (!(kind & (NEWLINE | SPACE))) break;
            last = p;
            p += width;
            if (kind == NEWLINE) line_end = p;
        }
        if (line_end) return line_end;
        return p == end || last == start ? p : last;
    }

    std::string classes;
};
