#include "train/text_teacher.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "tensor/formats/npy.h"
#include "train/caption_book.h"

namespace mc::train {
namespace {

std::vector<std::string> read_lines(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in || !std::filesystem::is_regular_file(path))
        throw Error(fmt::format("{}: cannot read it; check the path", path.string()));
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) {
        if (line.ends_with('\r')) line.pop_back();
        lines.push_back(line);
    }
    return lines;
}

}  // namespace

Tensor TextTeacher::embeddings(const std::vector<int64_t>& rows) const {
    Tensor out = Tensor::empty({static_cast<int64_t>(rows.size()), width});
    float* to = out.data<float>();
    for (const int64_t row : rows) {
        const int8_t* from = values.data() + row * width;
        double squares = 0;
        for (int64_t e = 0; e < width; ++e) squares += static_cast<double>(from[e]) * from[e];
        const double factor = 1.0 / std::sqrt(squares);
        for (int64_t e = 0; e < width; ++e) *to++ = static_cast<float>(from[e] * factor);
    }
    return out;
}

TextTeacher read_text_teacher(const std::filesystem::path& folder) {
    TextTeacher teacher;
    teacher.sentences = read_lines(folder / "sentences.txt");
    const auto count = teacher.sentences.size();
    if (count == 0)
        throw Error(fmt::format("{}: has no sentences", (folder / "sentences.txt").string()));

    const NpyArray values = read_npy(folder / "embeddings_i8.npy");
    if (values.descr != "|i1" || values.fortran_order || values.shape.size() != 2 ||
        values.shape[0] != static_cast<int64_t>(count) || values.shape[1] < 1)
        throw Error(fmt::format(
            "{}: want int8 of {} rows, one a line of sentences.txt; the folder is damaged",
            values.source, count));
    teacher.width = values.shape[1];
    teacher.values.resize(values.data.size());
    std::memcpy(teacher.values.data(), values.data.data(), values.data.size());

    const NpyArray scales = read_npy(folder / "embeddings_scale.npy");
    if (scales.kind() != 'f' || scales.shape != std::vector<int64_t>{values.shape[0]})
        throw Error(fmt::format("{}: want {} floating point numbers; the folder is damaged",
                                scales.source, count));
    teacher.scales = scales.as_f32();
    for (size_t i = 0; i < count; ++i) {
        if (!(teacher.scales[i] > 0) || !std::isfinite(teacher.scales[i]))
            throw Error(fmt::format("{}: entry {} is {}, want a positive number", scales.source, i,
                                    teacher.scales[i]));
        bool zero = true;
        for (int64_t e = 0; e < teacher.width && zero; ++e)
            zero =
                teacher.values[i * static_cast<size_t>(teacher.width) + static_cast<size_t>(e)] ==
                0;
        if (zero) throw Error(fmt::format("{}: row {} is all zeros", values.source, i));
    }
    return teacher;
}

std::vector<std::string> read_sentences(const std::filesystem::path& path) {
    std::vector<std::string> sentences;
    if (path.extension() == ".jsonl") {
        for (const CaptionedSegment& segment : read_captions(path.string()))
            for (const std::string& wording : segment.wordings()) sentences.push_back(wording);
    } else {
        for (std::string& line : read_lines(path))
            if (!line.empty()) sentences.push_back(std::move(line));
    }
    if (sentences.empty()) throw Error(fmt::format("{}: has no sentences", path.string()));
    return sentences;
}

}  // namespace mc::train
