#include "models/evaluator/word_vectors.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace mc::evaluator {
namespace {

constexpr int64_t kOther = 14;
constexpr std::array<std::string_view, 9> kPos = {"VERB", "NOUN", "DET", "ADP", "NUM",
                                                  "AUX",  "PRON", "ADJ", "ADV"};

// Words with a class of their own, 9 to 13, in the order of precedence.
const std::array<std::vector<std::string_view>, 5> kLists = {{
    {"left", "right", "clockwise", "counterclockwise", "anticlockwise", "forward", "back",
     "backward", "up", "down", "straight", "curve"},
    {"arm", "chin", "foot", "feet", "face", "hand", "mouth", "leg", "waist", "eye", "knee",
     "shoulder", "thigh"},
    {"stair", "dumbbell", "chair", "window", "floor", "car", "ball", "handrail", "baseball",
     "basketball"},
    {"walk",  "run",     "swing", "pick",   "bring",   "kick",   "put",  "squat",   "throw",
     "hop",   "dance",   "jump",  "turn",   "stumble", "stop",   "sit",  "lift",    "lower",
     "raise", "wash",    "stand", "kneel",  "stroll",  "rub",    "bend", "balance", "flap",
     "jog",   "shuffle", "lean",  "rotate", "spin",    "spread", "climb"},
    {"slowly", "carefully", "fast", "careful", "slow", "quickly", "happy", "angry", "sad",
     "happily", "angrily", "sadly"},
}};

}  // namespace

int64_t part_of_speech(const std::string& word, const std::string& pos) {
    for (size_t list = 0; list < kLists.size(); ++list)
        if (std::find(kLists[list].begin(), kLists[list].end(), word) != kLists[list].end())
            return static_cast<int64_t>(kPos.size() + list);
    const auto found = std::find(kPos.begin(), kPos.end(), pos);
    return found == kPos.end() ? kOther : found - kPos.begin();
}

WordVectors::WordVectors(const std::vector<std::string>& words, const Tensor& vectors) {
    if (vectors.dims() != 2 || vectors.size(0) != static_cast<int64_t>(words.size()))
        throw Error("[words] " + std::to_string(words.size()) + " words and vectors " +
                    vectors.shape().str() + ", want one row a word");
    vectors_ = vectors.to(DType::f32).contiguous();
    for (size_t i = 0; i < words.size(); ++i)
        if (!rows_.emplace(words[i], static_cast<int64_t>(i)).second)
            throw Error("[words] \"" + words[i] + "\" stands twice in the list");
    for (const char* needed : {"sos", "eos", "unk"})
        if (!rows_.count(needed))
            throw Error(std::string("[words] the list has no \"") + needed +
                        "\"; is it the data set's own (our_vab_words.pkl)?");
}

void WordVectors::put(const std::string& word, const std::string& pos, int64_t at,
                      WordFeatures& out) const {
    const auto found = rows_.find(word);
    const bool known = found != rows_.end();
    const int64_t row = known ? found->second : rows_.at("unk"), d = width();
    std::copy_n(vectors_.data<float>() + row * d, d, out.words.data<float>() + at * d);
    out.pos.data<float>()[at * kPartsOfSpeech + (known ? part_of_speech(word, pos) : kOther)] = 1;
}

WordFeatures WordVectors::features(std::span<const std::string> tokens) const {
    WordFeatures out;
    out.words = Tensor::empty({kTextLength, width()});
    out.pos = Tensor::zeros({kTextLength, kPartsOfSpeech});
    const int64_t count = std::min<int64_t>(kMaxTokens, static_cast<int64_t>(tokens.size()));
    out.length = count + 2;
    put("sos", "OTHER", 0, out);
    for (int64_t i = 0; i < count; ++i) {
        const std::string& token = tokens[static_cast<size_t>(i)];
        const size_t slash = token.find('/');
        if (slash == std::string::npos || token.find('/', slash + 1) != std::string::npos)
            throw Error("[words] token \"" + token + "\" is not word/POS");
        put(token.substr(0, slash), token.substr(slash + 1), i + 1, out);
    }
    put("eos", "OTHER", count + 1, out);
    for (int64_t at = count + 2; at < kTextLength; ++at) put("unk", "OTHER", at, out);
    return out;
}

}  // namespace mc::evaluator
