#include "train/caption_augment.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace mc::train {
namespace {

// --- words
// -----------------------------------------------------------------------------------------------------------

struct Token {
    std::string word;        // lower case
    std::size_t begin, end;  // in the caption
    bool apart;              // punctuation stands between it and the word before
};

bool is_word_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '\'' || c == '-' || static_cast<unsigned char>(c) >= 0x80;
}

std::vector<Token> tokens_of(std::string_view text) {
    std::vector<Token> tokens;
    bool apart = false;
    for (std::size_t at = 0; at < text.size();) {
        if (!is_word_byte(text[at])) {
            apart = apart || text[at] != ' ';
            ++at;
            continue;
        }
        const std::size_t begin = at;
        std::string word;
        for (; at < text.size() && is_word_byte(text[at]); ++at) {
            const char c = text[at];
            word += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
        }
        tokens.push_back({std::move(word), begin, at, apart});
        apart = false;
    }
    return tokens;
}

std::size_t word_count(std::string_view phrase) {
    return static_cast<std::size_t>(std::count(phrase.begin(), phrase.end(), ' ')) + 1;
}

std::string last_word(const std::string& phrase) {
    return phrase.substr(phrase.rfind(' ') + 1);
}

bool has_word(const std::string& phrase, std::string_view word) {
    for (const Token& token : tokens_of(phrase))
        if (token.word == word) return true;
    return false;
}

// A rough stem, the same for walk, walks, walking, walked: enough to find the verbs of the
// never-swap pairs.
std::string stem(std::string word) {
    const auto drop = [&](std::string_view ending, std::size_t least) {
        if (word.size() < least || !word.ends_with(ending)) return false;
        word.resize(word.size() - ending.size());
        return true;
    };
    if (!word.ends_with("ss")) drop("s", 4);
    if (!drop("ing", 6)) drop("ed", 5);
    drop("e", 4);
    if (word.size() > 3 && word[word.size() - 1] == word[word.size() - 2]) word.pop_back();
    return word;
}

std::vector<std::string> stems_of(std::string_view text) {
    std::vector<std::string> stems;
    for (Token& token : tokens_of(text)) stems.push_back(stem(std::move(token.word)));
    return stems;
}

bool contains(const std::vector<std::string>& text, const std::vector<std::string>& phrase) {
    return std::search(text.begin(), text.end(), phrase.begin(), phrase.end()) != text.end();
}

using Words = std::unordered_set<std::string_view>;

const Words kDeterminers = {"a",    "an",      "the",  "his",   "her",   "their",   "its",  "my",
                            "your", "each",    "one",  "two",   "three", "four",    "five", "six",
                            "some", "several", "many", "every", "both",  "another", "this", "that"};
const Words kPossessives = {"the", "his", "her", "their", "its", "my", "your"};
// What may stand behind a complete phrase: prepositions, conjunctions and the like, but not "of".
const Words kClauseWords = {
    "and",   "or",    "then",  "while", "as",     "with",    "without", "in",      "on",
    "to",    "at",    "by",    "over",  "under",  "above",   "below",   "behind",  "across",
    "along", "from",  "into",  "onto",  "toward", "towards", "around",  "through", "before",
    "after", "until", "but",   "so",    "like",   "for",     "near",    "next",    "who",
    "which", "when",  "where", "again", "apart",  "together"};
const Words kVerbLeads = {"and", "then", "he", "she", "who", "which", "but", "someone", "somebody"};
const Words kBeforePlace = {"to", "toward", "towards", "from", "at",    "in",
                            "of", "on",     "onto",    "into", "behind"};
const Words kBeforeSide = {"to", "on", "at", "from", "of", "with", "over"};
const Words kTurning = {"turn", "turns", "turning",  "rotate", "rotates", "rotating",
                        "spin", "spins", "spinning", "pivots", "swivels", "around"};
const Words kBeforeNumber = {"or",      "to",    "than", "at",   "about",
                             "another", "first", "last", "next", "every"};
const Words kParticles = {"up", "off", "out", "over", "down"};

bool among(const Words& words, const std::string& word) {
    return words.contains(word);
}

// --- phrases
// ---------------------------------------------------------------------------------------------------------

enum class Kind {
    kSubject,
    kVerb,
    kAdverb,
    kAdjective,
    kBodyPart,
    kDirection,
    kCount,
    kConnective,
    kSpelling
};

struct Entry {
    Kind kind;
    std::string name;  // of the list: the category of verbs, else the lexicon's own
    PhraseList phrases;
};

struct Match {
    std::size_t begin, end;  // tokens
    Kind kind;
    PhraseList others;  // what may stand there instead; empty: only the sense is known
};

struct PhraseTables {
    CaptionLexicon lexicon;
    std::vector<Entry> entries;
    std::unordered_map<std::string, std::vector<std::size_t>>
        by_phrase;                                  // entries that have the phrase
    std::size_t longest = 0;                        // words of the longest phrase
    std::unordered_set<std::string> subject_nouns;  // "person", "man", ...
    std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> never;  // stems

    explicit PhraseTables(const CaptionLexicon& words);

    void add(Kind kind, const std::string& name, const PhraseList& phrases);
    void add_all(Kind kind, const NamedLists& lists) {
        for (const auto& [name, phrases] : lists) add(kind, name, phrases);
    }
    bool crosses_pair(std::string_view before, std::string_view after) const;
};

using Tokens = std::vector<Token>;

// Reads a caption from left to right and says which phrases stand where in which sense.
class Reader {
  public:
    Reader(const PhraseTables& tables, const Tokens& tokens, std::string_view category)
        : tables_(tables), tokens_(tokens), category_(category) {}

    std::vector<Match> read() {
        for (std::size_t at = 0; at < tokens_.size();) {
            Match match;
            if (find(at, match)) {
                at = match.end;
                // "high up" must not become "way up up".
                std::erase_if(match.others, [&](const std::string& other) {
                    return last_word(other) == word(match.end) ||
                           other.substr(0, other.find(' ')) == before(match);
                });
                matches_.push_back(std::move(match));
            } else {
                ++at;
            }
        }
        return std::move(matches_);
    }

  private:
    // The phrase of `length` words at `at`; empty if punctuation or the end interrupts it.
    std::string phrase_at(std::size_t at, std::size_t length) const {
        if (at + length > tokens_.size()) return {};
        std::string phrase = tokens_[at].word;
        for (std::size_t i = at + 1; i < at + length; ++i) {
            if (tokens_[i].apart) return {};
            phrase += ' ';
            phrase += tokens_[i].word;
        }
        return phrase;
    }

    bool find(std::size_t at, Match& match) const {
        for (std::size_t length = tables_.longest; length > 0; --length) {
            const std::string phrase = phrase_at(at, length);
            const auto found =
                phrase.empty() ? tables_.by_phrase.end() : tables_.by_phrase.find(phrase);
            if (found == tables_.by_phrase.end()) continue;
            const std::vector<std::size_t>& candidates = found->second;
            // Of verbs, those of the caption's own category come first, and another's only if they
            // leave no doubt.
            std::vector<std::size_t> own, heads;
            for (const std::size_t e : candidates) {
                if (tables_.entries[e].kind != Kind::kVerb) continue;
                if (tables_.entries[e].phrases.front() == phrase) heads.push_back(e);
                if (tables_.entries[e].name == category_) own.push_back(e);
            }
            for (const std::size_t e : candidates) {
                const Entry& entry = tables_.entries[e];
                if (entry.kind == Kind::kVerb && entry.name != category_ &&
                    (!own.empty() || heads != std::vector<std::size_t>{e}))
                    continue;
                match = {at, at + length, entry.kind, {}};
                if (fits(entry, phrase, match)) return true;
            }
        }
        return false;
    }

    const std::string& word(std::size_t i) const {
        static const std::string kNone;
        return i < tokens_.size() ? tokens_[i].word : kNone;
    }
    const std::string& before(const Match& m) const {
        return m.begin == 0 || tokens_[m.begin].apart ? word(tokens_.size()) : word(m.begin - 1);
    }
    bool at_end(std::size_t i) const { return i >= tokens_.size() || tokens_[i].apart; }

    // The sense of what stands right before, if a phrase was recognised there.
    bool follows(const Match& m, std::initializer_list<Kind> kinds) const {
        if (matches_.empty() || m.begin == 0 || tokens_[m.begin].apart) return false;
        const Match& last = matches_.back();
        return last.end == m.begin &&
               std::find(kinds.begin(), kinds.end(), last.kind) != kinds.end();
    }

    // Does a phrase of one of these kinds start at token i?
    bool starts(std::size_t i, std::initializer_list<Kind> kinds) const {
        for (std::size_t length = tables_.longest; length > 0; --length) {
            const std::string phrase = phrase_at(i, length);
            const auto found =
                phrase.empty() ? tables_.by_phrase.end() : tables_.by_phrase.find(phrase);
            if (found == tables_.by_phrase.end()) continue;
            for (const std::size_t e : found->second)
                if (std::find(kinds.begin(), kinds.end(), tables_.entries[e].kind) != kinds.end())
                    return true;
        }
        return false;
    }

    // Is a phrase that ends before token i complete there, so that a longer one may take its place?
    bool complete(std::size_t i) const {
        return at_end(i) || among(kClauseWords, word(i)) || word(i).ends_with("ly") ||
               starts(i, {Kind::kDirection, Kind::kAdverb, Kind::kCount});
    }

    PhraseList others(const Entry& entry, const std::string& phrase) const {
        PhraseList list;
        for (const std::string& other : entry.phrases)
            if (other != phrase) list.push_back(other);
        return list;
    }

    bool fits(const Entry& entry, const std::string& phrase, Match& m) const {
        m.others = others(entry, phrase);
        switch (entry.kind) {
            case Kind::kSubject:
                return subject_fits(m, phrase);
            case Kind::kVerb:
                return verb_fits(m, phrase);
            case Kind::kAdverb:
                return adverb_fits(m, phrase);
            case Kind::kAdjective:
                return complete(m.end) &&
                       (entry.name.ends_with("steps") ||
                        follows(m, {Kind::kVerb, Kind::kBodyPart, Kind::kDirection}));
            case Kind::kBodyPart:
                return body_part_fits(m, phrase);
            case Kind::kDirection:
                return direction_fits(entry, m, phrase);
            case Kind::kCount:
                return complete(m.end) && word(m.end) != "or" && !among(kBeforeNumber, before(m)) &&
                       !among(kDeterminers, before(m));
            case Kind::kConnective:
                return connective_fits(entry, m, phrase);
            case Kind::kSpelling:
                if (phrase == "round" || phrase == "around")
                    return !among(kDeterminers, before(m)) &&
                           (complete(m.end) || among(kDeterminers, word(m.end)));
                return true;
        }
        return false;
    }

    bool subject_fits(Match& m, const std::string& phrase) const {
        if (m.begin != 0 || at_end(m.end)) return false;
        const std::string& next = word(m.end);
        if (next == "of" || next == "eight" || tables_.subject_nouns.contains(next)) return false;
        // "a man and a woman": two people stay as they are.
        if (next == "and" && among(kDeterminers, word(m.end + 1))) return false;
        bool male = false, female = false;
        for (std::size_t i = m.end; i < tokens_.size(); ++i) {
            const std::string& w = tokens_[i].word;
            male |=
                w == "he" || w == "his" || w == "him" || w == "himself" || w == "man" || w == "guy";
            female |= w == "she" || w == "her" || w == "hers" || w == "herself" || w == "woman" ||
                      w == "lady";
        }
        const auto within = [](const PhraseList& list, const std::string& s) {
            return std::find(list.begin(), list.end(), s) != list.end();
        };
        PhraseList pool = tables_.lexicon.subjects;
        pool.insert(pool.end(), tables_.lexicon.female_only.begin(),
                    tables_.lexicon.female_only.end());
        if (const auto role = tables_.lexicon.roles.find(std::string(category_));
            role != tables_.lexicon.roles.end())
            pool.insert(pool.end(), role->second.begin(), role->second.end());
        std::sort(pool.begin(), pool.end());
        pool.erase(std::unique(pool.begin(), pool.end()), pool.end());
        m.others.clear();
        for (const std::string& subject : pool) {
            if (subject == phrase || (male && within(tables_.lexicon.female_only, subject)) ||
                (female && within(tables_.lexicon.male_only, subject)) ||
                (category_ != "walk" && within(tables_.lexicon.walk_only, subject)))
                continue;
            m.others.push_back(subject);
        }
        return true;
    }

    bool verb_fits(Match& m, const std::string& phrase) const {
        const bool led = m.begin == 0 || tokens_[m.begin].apart || among(kVerbLeads, before(m)) ||
                         tables_.subject_nouns.contains(before(m)) ||
                         follows(m, {Kind::kSubject, Kind::kAdverb, Kind::kConnective});
        if (!led) return false;
        // "kicks the ball": only another single verb takes an object too. "jumps rope", "sits up":
        // keep.
        if (at_end(m.end)) return true;
        if (among(kParticles, word(m.end)))
            m.others.clear();
        else if (!complete(m.end)) {
            const bool object = among(kDeterminers, word(m.end)) && word_count(phrase) == 1;
            std::erase_if(m.others,
                          [&](const std::string& s) { return !object || word_count(s) != 1; });
        }
        return true;
    }

    bool adverb_fits(Match& m, const std::string& phrase) const {
        const bool behind =
            follows(m, {Kind::kVerb, Kind::kDirection, Kind::kCount, Kind::kBodyPart});
        const bool clear = word_count(phrase) > 1 ? phrase != "a little" && phrase != "a bit"
                                                  : phrase.ends_with("ly");
        if (!clear && !(behind && complete(m.end))) return false;
        if (!complete(m.end)) {
            if (word_count(phrase) > 1) return false;
            // "slowly raises": only another such word can stand before the verb.
            std::erase_if(m.others, [](const std::string& s) {
                return word_count(s) > 1 || !s.ends_with("ly");
            });
        }
        return true;
    }

    bool body_part_fits(Match& m, const std::string& phrase) const {
        const auto counts = [](const std::string& s) {
            return s.starts_with("both ") || s.starts_with("two ");
        };
        const std::string& next = word(m.end);
        if (!at_end(m.end) && !complete(m.end) && !next.ends_with("ed") && !next.ends_with("ing"))
            return false;
        const std::string& lead = before(m);
        if (counts(phrase)) {
            // "on both feet" is more than "on feet".
            if (lead.empty() || among(kClauseWords, lead))
                std::erase_if(m.others, [&](const std::string& s) { return !counts(s); });
            return !among(kDeterminers, lead);
        }
        // "the right and then the left hand": the first side needs the noun where it is.
        for (std::size_t i = m.begin - std::min<std::size_t>(m.begin, 5); i + 1 < m.begin; ++i)
            if ((word(i) == "left" || word(i) == "right") && among(kClauseWords, word(i + 1)))
                return false;
        if (among(kPossessives, lead)) {
            if (m.begin >= 2 && among(kBeforePlace, word(m.begin - 2))) return false;
            std::erase_if(m.others, counts);
            return true;
        }
        // Without an article only the plain plural: "with arms raised".
        std::erase_if(m.others, [&](const std::string& s) { return !counts(s); });
        return lead == "with" && !m.others.empty();
    }

    bool direction_fits(const Entry& entry, Match& m, const std::string& phrase) const {
        const std::string& lead = before(m);
        if (!complete(m.end) || among(kDeterminers, lead) || lead == "from") return false;
        if (phrase == "left" || phrase == "right") {
            const bool pair = (lead == "and" || lead == "or") && m.begin >= 2 &&
                              (word(m.begin - 2) == "left" || word(m.begin - 2) == "right");
            return !pair && !among(kBeforeSide, lead);
        }
        if (phrase == "up" || phrase == "down") return follows(m, {Kind::kBodyPart});
        if (entry.name.ends_with("turn")) return among(kTurning, lead);
        if (entry.name.starts_with("circle")) {
            if (among(kTurning, lead)) return false;
            std::erase_if(m.others, [&](const std::string& s) { return has_word(s, lead); });
        }
        return true;
    }

    bool connective_fits(const Entry& entry, Match& m, const std::string& phrase) const {
        if (entry.name == "then") {
            if (phrase == "next" || m.begin == 0) return false;
            if (phrase.starts_with("and ")) {
                for (std::string& other : m.others)
                    if (other != "then") other = "and " + other;
                return true;
            }
            if (tokens_[m.begin].apart) return true;
            if (before(m) == "and")
                std::erase_if(m.others, [](const std::string& s) { return s.starts_with("and "); });
            else
                std::erase_if(m.others,
                              [](const std::string& s) { return s != "then" && s != "and then"; });
            return true;
        }
        if (entry.name == "while") {
            return phrase == "while" && (among(kPossessives, word(m.end)) || word(m.end) == "he" ||
                                         word(m.end) == "she" || word(m.end) == "they");
        }
        return m.begin != 0 &&
               (tokens_[m.begin].apart || (entry.name == "finally" && before(m) == "and"));
    }

    const PhraseTables& tables_;
    const Tokens& tokens_;
    std::string_view category_;
    std::vector<Match> matches_;
};

PhraseTables::PhraseTables(const CaptionLexicon& words) : lexicon(words) {
    PhraseList subjects = words.subjects;
    const auto append = [&](const PhraseList& more) {
        subjects.insert(subjects.end(), more.begin(), more.end());
    };
    append(words.female_only);
    append(words.male_only);
    append(words.walk_only);
    for (const auto& [category, list] : words.roles) append(list);
    add(Kind::kSubject, "subjects", subjects);
    for (const std::string& subject : subjects) subject_nouns.insert(last_word(subject));
    for (const auto& [category, lists] : words.verbs)
        for (const PhraseList& list : lists) add(Kind::kVerb, category, list);
    // The order decides where a phrase is in several kinds: directions before the single words of
    // spelling.
    add_all(Kind::kDirection, words.directions);
    add_all(Kind::kCount, words.counts);
    add_all(Kind::kAdverb, words.adverbs);
    add_all(Kind::kAdjective, words.adjectives);
    add_all(Kind::kBodyPart, words.body_parts);
    add_all(Kind::kConnective, words.connectives);
    add_all(Kind::kSpelling, words.spelling);
    for (const auto& [a, b] : words.never_swap) never.emplace_back(stems_of(a), stems_of(b));
}

void PhraseTables::add(Kind kind, const std::string& name, const PhraseList& phrases) {
    entries.push_back({kind, name, phrases});
    for (const std::string& phrase : phrases) {
        std::vector<std::size_t>& owners = by_phrase[phrase];
        if (owners.empty() || owners.back() != entries.size() - 1)
            owners.push_back(entries.size() - 1);
        longest = std::max(longest, word_count(phrase));
    }
}

// Did one side of a never-swap pair give way to the other?
bool PhraseTables::crosses_pair(std::string_view before, std::string_view after) const {
    const auto old_stems = stems_of(before);
    const auto new_stems = stems_of(after);
    for (const auto& [a, b] : never) {
        const bool old_a = contains(old_stems, a), old_b = contains(old_stems, b);
        const bool new_a = contains(new_stems, a), new_b = contains(new_stems, b);
        if ((old_a && !old_b && !new_a && new_b) || (old_b && !old_a && !new_b && new_a))
            return true;
    }
    return false;
}

}  // namespace

struct CaptionAugmenter::Tables : PhraseTables {
    using PhraseTables::PhraseTables;
};

CaptionAugmenter::CaptionAugmenter(const CaptionLexicon& lexicon, const RewordOptions& options)
    : tables_(std::make_unique<const Tables>(lexicon)), options_(options) {}
CaptionAugmenter::~CaptionAugmenter() = default;
CaptionAugmenter::CaptionAugmenter(CaptionAugmenter&&) noexcept = default;
CaptionAugmenter& CaptionAugmenter::operator=(CaptionAugmenter&&) noexcept = default;

std::string CaptionAugmenter::reword(std::string_view caption, std::string_view category,
                                     const RandomBelow& below) const {
    const Tables& t = *tables_;
    const Tokens tokens = tokens_of(caption);
    const std::vector<Match> matches = Reader(t, tokens, category).read();
    std::string out(caption);
    std::ptrdiff_t shift = 0;  // of what follows, through the replacements so far
    for (const Match& match : matches) {
        if (match.others.empty() || below(100) >= options_.replace_percent) continue;
        const std::string& other =
            match.others[below(static_cast<std::uint32_t>(match.others.size()))];
        const std::size_t begin = tokens[match.begin].begin, end = tokens[match.end - 1].end;
        std::string changed = out;
        changed.replace(static_cast<std::size_t>(static_cast<std::ptrdiff_t>(begin) + shift),
                        end - begin, other);
        if (t.crosses_pair(out, changed)) continue;
        out = std::move(changed);
        shift +=
            static_cast<std::ptrdiff_t>(other.size()) - static_cast<std::ptrdiff_t>(end - begin);
    }
    const bool starts_with_verb = !matches.empty() && matches[0].begin == 0 &&
                                  matches[0].kind == Kind::kVerb && tokens[0].begin == 0;
    if (starts_with_verb && below(100) < options_.add_subject_percent) {
        PhraseList subjects;
        for (const std::string& subject : t.lexicon.subjects) {
            const auto within = [&](const PhraseList& list) {
                return std::find(list.begin(), list.end(), subject) != list.end();
            };
            // A sex or a trade would have to agree with the rest.
            if (!within(t.lexicon.male_only) && !within(t.lexicon.female_only) &&
                !within(t.lexicon.walk_only))
                subjects.push_back(subject);
        }
        if (!subjects.empty())
            out = subjects[below(static_cast<std::uint32_t>(subjects.size()))] + " " + out;
    }
    return out;
}

}  // namespace mc::train
