"""What to cite. A paper is written down once, here; methods name the ones they come from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    arxiv: str = ""

    def __str__(self) -> str:
        return f"{', '.join(self.authors)}. {self.title}. {self.venue} {self.year}."

    @property
    def bibtex(self) -> str:
        fields = {
            "title": f"{{{self.title}}}",
            "author": " and ".join(self.authors),
            "booktitle": self.venue,
            "year": str(self.year),
        }
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archiveprefix": "arXiv"}
        return "\n".join([f"@inproceedings{{{self.key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"])


DDPM = Paper(
    "ho2020ddpm",
    "Denoising Diffusion Probabilistic Models",
    ("Jonathan Ho", "Ajay Jain", "Pieter Abbeel"),
    2020,
    "NeurIPS",
    "2006.11239",
)
DDIM = Paper(
    "song2021ddim",
    "Denoising Diffusion Implicit Models",
    ("Jiaming Song", "Chenlin Meng", "Stefano Ermon"),
    2021,
    "ICLR",
    "2010.02502",
)
SCORE_SDE = Paper(
    "song2021score",
    "Score-Based Generative Modeling through Stochastic Differential Equations",
    ("Yang Song", "Jascha Sohl-Dickstein", "Diederik P. Kingma", "Abhishek Kumar", "Stefano Ermon", "Ben Poole"),
    2021,
    "ICLR",
    "2011.13456",
)
REPAINT = Paper(
    "lugmayr2022repaint",
    "RePaint: Inpainting using Denoising Diffusion Probabilistic Models",
    ("Andreas Lugmayr", "Martin Danelljan", "Andres Romero", "Fisher Yu", "Radu Timofte", "Luc Van Gool"),
    2022,
    "CVPR",
    "2201.09865",
)
ILVR = Paper(
    "choi2021ilvr",
    "ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models",
    ("Jooyoung Choi", "Sungwon Kim", "Yonghyun Jeong", "Youngjune Gwon", "Sungroh Yoon"),
    2021,
    "ICCV",
    "2108.02938",
)
DDNM = Paper(
    "wang2023ddnm",
    "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model",
    ("Yinhuai Wang", "Jiwen Yu", "Jian Zhang"),
    2023,
    "ICLR",
    "2212.00490",
)
DIFFPIR = Paper(
    "zhu2023diffpir",
    "Denoising Diffusion Models for Plug-and-Play Image Restoration",
    ("Yuanzhi Zhu", "Kai Zhang", "Jingyun Liang", "Jiezhang Cao", "Bihan Wen", "Radu Timofte", "Luc Van Gool"),
    2023,
    "CVPR Workshops",
    "2305.08995",
)
DPS = Paper(
    "chung2023dps",
    "Diffusion Posterior Sampling for General Noisy Inverse Problems",
    ("Hyungjin Chung", "Jeongsol Kim", "Michael T. Mccann", "Marc L. Klasky", "Jong Chul Ye"),
    2023,
    "ICLR",
    "2209.14687",
)
PIGDM = Paper(
    "song2023pigdm",
    "Pseudoinverse-Guided Diffusion Models for Inverse Problems",
    ("Jiaming Song", "Arash Vahdat", "Morteza Mardani", "Jan Kautz"),
    2023,
    "ICLR",
)
COPAINT = Paper(
    "zhang2023copaint",
    "Towards Coherent Image Inpainting Using Denoising Diffusion Implicit Models",
    ("Guanhua Zhang", "Jiabao Ji", "Yang Zhang", "Mo Yu", "Tommi Jaakkola", "Shiyu Chang"),
    2023,
    "ICML",
    "2304.03322",
)
