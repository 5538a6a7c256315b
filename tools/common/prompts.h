// What a user asks a motion for: words on the command line, or lines of a file.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace mc::tools {

struct PromptLine {
    std::string text;
    std::string seconds;  // as written after the last '#'; "" if nothing is there
    std::string place;    // "prompts.txt:3" or "the command line", for errors about the prompt
};

// Error, with `place` for its beginning, unless the prompt is UTF-8 of at most 100,000 bytes and
// has a letter, of any script: what has none says nothing, or was meant for an option.
void check_prompt(const std::string& prompt, const std::string& place);

// One prompt a line, "text" or "text#seconds"; blank lines, the byte order mark of Windows' editors
// and white space at the ends are passed over. "-" is standard input. Error if there is no prompt,
// or one that check_prompt refuses.
std::vector<PromptLine> read_prompts(const std::filesystem::path& path);

// A line of warning if prompts are in another script than English is written in: text encoders know
// its letters no better than noise. "" if none is.
std::string script_warning(std::span<const PromptLine> prompts);

}  // namespace mc::tools
