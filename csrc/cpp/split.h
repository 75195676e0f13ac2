// Llama 4's split pattern by hand: the same pieces as the regular expression in tinyscout/inputs/tokenizer.py, many times
// faster.  A regular expression tries its alternatives in order and backtracks; here every alternative is one run
// over characters of certain classes, and where it would have stopped after backtracking is kept while running.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

class Llama4Split {
public:
    // `classes` holds one byte per code point, the numbers below: Python's `regex` knows Unicode, this file does not.
    explicit Llama4Split(std::string classes) : classes(std::move(classes)) {
        if (this->classes.size() != 0x110000) throw std::invalid_argument("one class per code point: 0x110000 bytes");
    }

    // Where the piece ends that starts at p.  The text is valid UTF-8 and p is before its end.
    const char *next(const char *p, const char *end) const {
        const auto [kind, width] = look(p);
        const char *inner = kind & (NEWLINE | LETTER | NUMBER) ? nullptr : p + width;   // one odd character may lead in
        const char *e = inner ? small_ending(inner, end) : nullptr;
        if (!e) e = small_ending(p, end);
        if (!e && inner) e = capitals(inner, end);
        if (!e) e = capitals(p, end);
        if (e) return contraction(e, end);
        if (kind == NUMBER) return digits(p, end);
        const char *start = *p == ' ' ? p + 1 : p;
        if ((e = run(start, end, OTHER | MARK)) > start) {
            while (e < end && (*e == '\r' || *e == '\n' || *e == '/')) e++;
            return e;
        }
        return spaces(p, end);
    }

private:
    enum Kind : unsigned {      // one bit each, so that a set of classes is one number
        OTHER = 1, UPPER = 2, LOWER = 4, CASELESS = 8, MARK = 16, NUMBER = 32, NEWLINE = 64, SPACE = 128,
        LETTER = UPPER | LOWER | CASELESS,
        BIG = UPPER | CASELESS | MARK, SMALL = LOWER | CASELESS | MARK,      // the pattern's two character sets
    };
    struct Character { unsigned kind; int width; };

    Character look(const char *p) const {
        const auto byte = [p](int i) { return static_cast<unsigned char>(p[i]); };
        const auto kind = [this](unsigned code) { return 1u << classes[code]; };
        if (byte(0) < 0x80) return {kind(byte(0)), 1};
        if (byte(0) < 0xE0) return {kind((byte(0) & 31) << 6 | (byte(1) & 63)), 2};
        if (byte(0) < 0xF0) return {kind((byte(0) & 15) << 12 | (byte(1) & 63) << 6 | (byte(2) & 63)), 3};
        return {kind((byte(0) & 7) << 18 | (byte(1) & 63) << 12 | (byte(2) & 63) << 6 | (byte(3) & 63)), 4};
    }

    const char *run(const char *p, const char *end, unsigned kinds) const {
        while (p < end) {
            const auto [kind, width] = look(p);
            if (!(kind & kinds)) break;
            p += width;
        }
        return p;
    }

    // BIG* SMALL+.  BIG takes all it can; if no LOWER follows, it gives back down to the last character of both sets.
    const char *small_ending(const char *p, const char *end) const {
        const char *both = nullptr;
        while (p < end) {
            const auto [kind, width] = look(p);
            if (!(kind & BIG)) break;
            p += width;
            if (kind & SMALL) both = p;
        }
        const char *e = run(p, end, SMALL);
        return e > p ? e : both;
    }

    // BIG+ SMALL*, tried only where small_ending found nothing: then no SMALL character follows.
    const char *capitals(const char *p, const char *end) const {
        const char *e = run(p, end, BIG);
        return e > p ? e : nullptr;
    }

    // 's 't 're 've 'm 'll 'd in either case.  U+017F, the old long s, is an s too when case is ignored.
    static const char *contraction(const char *p, const char *end) {
        if (end - p < 2 || *p != '\'') return p;
        const char a = p[1] | 0x20, b = end - p > 2 ? p[2] | 0x20 : 0;
        if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
        if ((b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l')) return p + 3;
        if (end - p > 2 && std::string_view(p + 1, 2) == "\xC5\xBF") return p + 3;
        return p;
    }

    const char *digits(const char *p, const char *end) const {
        for (int n = 0; n < 3 && p < end; n++) {
            const auto [kind, width] = look(p);
            if (kind != NUMBER) break;
            p += width;
        }
        return p;
    }

    // Up to the last line break; else all but the last space, which belongs to the word that follows.
    const char *spaces(const char *p, const char *end) const {
        const char *start = p, *last = p, *line = nullptr;
        while (p < end) {
            const auto [kind, width] = look(p);
            if (!(kind & (NEWLINE | SPACE))) break;
            last = p;
            p += width;
            if (kind == NEWLINE) line = p;
        }
        if (line) return line;
        return p == end || last == start ? p : last;
    }

    std::string classes;
};
