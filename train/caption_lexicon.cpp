#include "train/caption_lexicon.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "tensor/formats/json_limit.h"

namespace mc::train {
namespace {

using nlohmann::json;

PhraseList phrase_list(const json& value, const std::string& field) {
    if (!value.is_array() || value.empty()) throw Error(field + ": want a list of phrases");
    PhraseList list;
    for (const json& phrase : value) {
        if (!phrase.is_string() || phrase.get_ref<const std::string&>().empty())
            throw Error(field + ": want phrases, got " + phrase.dump());
        list.push_back(phrase.get<std::string>());
    }
    return list;
}

const json& object_at(const json& parent, const std::string& field) {
    if (!parent.contains(field) || !parent.at(field).is_object())
        throw Error(field + ": missing or not an object");
    return parent.at(field);
}

PhraseList phrases_at(const json& parent, const std::string& field) {
    if (!parent.contains(field)) throw Error(field + ": missing");
    return phrase_list(parent.at(field), field);
}

NamedLists lists_at(const json& parent, const std::string& field) {
    NamedLists lists;
    for (const auto& [name, value] : object_at(parent, field).items())
        lists[name] = phrase_list(value, field + "." + name);
    return lists;
}

CaptionLexicon lexicon_of(const json& root) {
    if (!root.is_object()) throw Error("want a JSON object");
    CaptionLexicon lexicon;
    lexicon.subjects = phrases_at(root, "subjects");
    const json& notes = object_at(root, "subjects_note");
    lexicon.female_only = phrases_at(notes, "female_only");
    lexicon.male_only = phrases_at(notes, "male_only");
    lexicon.walk_only = phrases_at(notes, "walk_only");
    lexicon.roles = lists_at(notes, "role");
    for (const auto& [category, lists] : object_at(root, "verbs").items()) {
        if (!lists.is_array()) throw Error("verbs." + category + ": want a list of lists");
        for (const json& list : lists)
            lexicon.verbs[category].push_back(phrase_list(list, "verbs." + category));
    }
    lexicon.adverbs = lists_at(root, "adverbs");
    lexicon.adjectives = lists_at(root, "adjectives");
    lexicon.body_parts = lists_at(root, "body_parts");
    lexicon.directions = lists_at(root, "directions");
    lexicon.counts = lists_at(root, "counts");
    lexicon.connectives = lists_at(root, "connectives");
    lexicon.spelling = lists_at(root, "spelling");
    if (!root.contains("not_interchangeable") || !root.at("not_interchangeable").is_array())
        throw Error("not_interchangeable: missing or not a list");
    for (const json& pair : root.at("not_interchangeable")) {
        const PhraseList two = phrase_list(pair, "not_interchangeable");
        if (two.size() != 2) throw Error("not_interchangeable: want pairs, got " + pair.dump());
        lexicon.never_swap.emplace_back(two[0], two[1]);
    }
    return lexicon;
}

}  // namespace

CaptionLexicon CaptionLexicon::from_file(const std::string& path) {
    std::ifstream in(path);
    if (!in) throw Error("[" + path + "] cannot be opened: " + std::strerror(errno));
    try {
        return lexicon_of(json::parse(in, json_depth_limit()));
    } catch (const json::exception& error) {
        throw Error("[" + path + "] no lexicon: " + json_problem(error) +
                    "; name a JSON file such as pretrained/text/lexicon.json");
    } catch (const Error& error) {
        throw Error("[" + path + "] " + error.what());
    }
}

}  // namespace mc::train
